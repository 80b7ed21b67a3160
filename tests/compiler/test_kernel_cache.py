from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT
from tilewright.compiler.kernel_cache import KernelCache, default_folder

KEY, OBJECT = "0" * 64, b"\x7fELF and so on"


@pytest.fixture
def cache(tmp_path) -> KernelCache:
    return KernelCache(tmp_path / "kernels")


def test_what_was_written_is_read(cache):
    assert cache.read(KEY) is None
    cache.write(KEY, OBJECT)
    assert cache.read(KEY) == OBJECT
    assert cache.read("1" * 64) is None


@pytest.mark.parametrize("size", [0, 10, 32, 40])
def test_a_truncated_file_counts_as_absent_and_is_written_again(cache, tmp_path, size):
    cache.write(KEY, OBJECT)
    path = tmp_path / "kernels" / KEY
    path.write_bytes(path.read_bytes()[:size])
    assert cache.read(KEY) is None
    cache.write(KEY, OBJECT)
    assert cache.read(KEY) == OBJECT


def test_a_foreign_file_counts_as_absent(cache, tmp_path):
    cache.write(KEY, OBJECT)
    (tmp_path / "kernels" / KEY).write_bytes(b"something else, and longer than a digest is")
    assert cache.read(KEY) is None


def test_leaves_no_other_file(cache, tmp_path):
    cache.write(KEY, OBJECT)
    assert [path.name for path in (tmp_path / "kernels").iterdir()] == [KEY]


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = KernelCache(tmp_path / "file" / "kernels")
    cache.write(KEY, OBJECT)
    cache.trim()
    assert cache.read(KEY) is None


def test_a_full_disk_keeps_nothing(cache, tmp_path, monkeypatch):
    def full(*_paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.write(KEY, OBJECT)
    assert cache.read(KEY) is None
    assert list((tmp_path / "kernels").iterdir()) == []


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = KernelCache(tmp_path / "kernels", limit_bytes=2 * (32 + len(OBJECT)))
    keys = [str(number) * 64 for number in range(3)]
    for age, key in enumerate(keys):
        cache.write(key, OBJECT)
        os.utime(tmp_path / "kernels" / key, (1000 + age, 1000 + age))
    cache.read(keys[0])
    cache.trim()
    assert [cache.read(key) is not None for key in keys] == [True, False, True]


def test_stays_as_it_is_within_the_limit(cache):
    cache.write(KEY, OBJECT)
    cache.trim()
    assert cache.read(KEY) == OBJECT


def test_the_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert default_folder() == Path("/elsewhere/tilewright/kernels")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_folder() == Path("/home/somebody/.cache/tilewright/kernels")


_WRITE_AND_READ = """
import sys
from pathlib import Path
from tilewright.compiler.kernel_cache import KernelCache
cache = KernelCache(Path(sys.argv[1]))
for number in range(200):
    key = str(number % 5) * 64
    content = cache.read(key)
    assert content in (None, key.encode() * 1000), key
    cache.write(key, key.encode() * 1000)
"""


def test_processes_share_a_folder(tmp_path):
    command = [sys.executable, "-c", _WRITE_AND_READ, str(tmp_path / "kernels")]
    running = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(list((tmp_path / "kernels").iterdir())) == 5
