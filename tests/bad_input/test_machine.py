"""A machine that will not do: a full disk, a limit, no C compiler."""

from __future__ import annotations

import errno
import os
import resource
import signal

import pytest

from tests import models
from tests.command_line import refused, spawn
from tilewright.compiler import artifact as artifact_module
from tilewright.errors import OutputError, ToolchainError


def _no_space(*_args: object, **_kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


@pytest.mark.parametrize("call", ["shutil.copyfile", "os.replace"])
def test_a_full_disk_at_the_end_leaves_the_old_library_alone(
    call, model_file, here, linear_library, monkeypatch
):
    (here / "model.so").write_bytes(b"the old one")
    module, _, name = call.partition(".")
    monkeypatch.setattr(getattr(artifact_module, module), name, _no_space)
    path = model_file(models.linear())
    refused(OutputError, "compile", path, "-q", "--no-verify", says=["No space left", "model.so"])
    assert (here / "model.so").read_bytes() == b"the old one"
    assert [p.name for p in here.iterdir()] == ["model.so"]


def test_a_real_write_limit_is_an_output_error_and_leaves_nothing(model_file, tmp_path):
    # A weight above the limit: the section file cannot be written.
    path = model_file(models.linear(inner=512, columns=512))
    place = tmp_path / "place"
    place.mkdir()
    limit = 600 * 1024

    def confine() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = spawn(
        "compile",
        path,
        "--no-verify",
        cwd=place,
        env={"TMPDIR": str(tmp_path / "place")},
        preexec_fn=confine,
    )
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    assert list(place.iterdir()) == []


def test_no_c_compiler_says_how_to_get_one(model_file, nothing_left, monkeypatch):
    monkeypatch.setenv("CC", "/no/such/compiler")
    refused(
        ToolchainError,
        "compile",
        model_file(models.linear()),
        "-q",
        says=["no C compiler", "/no/such/compiler", "apt-get install gcc"],
    )
