from __future__ import annotations

import contextlib

import pytest

from tilewright.compiler import sections
from tilewright.errors import ArtifactError
from tilewright.targets import toolchain


@pytest.fixture
def library(tmp_path):
    def make(manifest: dict, weights: bytes):
        (tmp_path / "w.bin").write_bytes(weights)
        built = [
            sections.write_manifest(manifest, tmp_path),
            sections.write_weights(tmp_path / "w.bin", "weights"),
        ]
        toolchain.HOST.link_shared(tmp_path / "a.so", built)
        return tmp_path / "a.so"

    return make


@pytest.mark.parametrize("weights", [b"", b"x", bytes(10_000)])
def test_the_manifest_is_read_without_loading(library, weights):
    manifest = {"name": "größe", "shape": [1, None], "quote": '"\\\n'}
    assert sections.read_manifest(library(manifest, weights)) == manifest


def test_weights_lie_on_a_page(library):
    import ctypes

    handle = ctypes.CDLL(str(library({}, b"abc")))
    start = ctypes.addressof(ctypes.c_char.in_dll(handle, "weights"))
    assert start % 4096 == 0 and ctypes.string_at(start, 3) == b"abc"


def test_a_path_with_spaces_and_quotes(tmp_path):
    folder = tmp_path / "a folder, of 'mine'"
    folder.mkdir()
    (folder / "w.bin").write_bytes(b"abc")
    assert sections.write_manifest({}, folder).is_file()
    assert sections.write_weights(folder / "w.bin", "weights").is_file()


@pytest.mark.parametrize("rest", [b"", bytes(60), b"\xff" * 99], ids=len)
def test_damage_is_an_artifact_error(rest, tmp_path):
    (tmp_path / "a.so").write_bytes(b"\x7fELF" + rest)
    with pytest.raises(ArtifactError):
        sections.read_manifest(tmp_path / "a.so")


def test_any_cut_and_any_flipped_byte_is_an_artifact_error_or_harmless(library):
    path = library({"name": "m"}, bytes(100))
    data = path.read_bytes()
    for place in [*range(64), *range(64, len(data), 97)]:
        for damaged in (data[:place], data[:place] + b"\xff" + data[place + 1 :]):
            path.write_bytes(damaged)
            with contextlib.suppress(ArtifactError):
                sections.read_manifest(path)
