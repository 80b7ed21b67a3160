from __future__ import annotations

import ctypes
import subprocess

import pytest

from tilewright.errors import OutputError, ToolchainError
from tilewright.targets import toolchain


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes $CC a script."""

    def make(text: str) -> None:
        path = tmp_path / "cc"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv("CC", str(path))

    return make


def test_cc_in_the_environment_wins(program):
    program("exit 0")
    assert toolchain.find_c_compiler().endswith("/cc")


def test_none_at_all_says_how_to_install_one(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolchainError, match="cc, gcc, clang not found") as info:
        toolchain.find_c_compiler()
    assert "apt-get install gcc" in info.value.hint


def test_assembles_and_links(tmp_path):
    source = tmp_path / "a.S"
    source.write_text('.globl answer\nanswer: .long 42\n.section .note.GNU-stack,"",@progbits\n')
    toolchain.HOST.assemble(source, tmp_path / "a.o")
    toolchain.HOST.link_shared(tmp_path / "a.so", [tmp_path / "a.o"])
    library = ctypes.CDLL(str(tmp_path / "a.so"))
    assert ctypes.c_int.in_dll(library, "answer").value == 42


def test_a_failure_carries_what_the_linker_said(program, tmp_path):
    program("echo 'undefined reference to expf' >&2; exit 3")
    with pytest.raises(ToolchainError, match="exit code 3: undefined reference to expf"):
        toolchain.HOST.link_shared(tmp_path / "a.so", [])


def test_a_full_disk_is_an_output_error(program, tmp_path):
    program("echo 'ld: final link failed: No space left on device' >&2; exit 1")
    with pytest.raises(OutputError, match="the disk is full") as info:
        toolchain.HOST.link_shared(tmp_path / "a.so", [])
    assert "TMPDIR" in info.value.hint


def test_a_linker_that_hangs_is_given_up(program, tmp_path, monkeypatch):
    def hangs(command, **settings):
        raise subprocess.TimeoutExpired(command, settings["timeout"])

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(ToolchainError, match="did not finish within"):
        toolchain.HOST.link_shared(tmp_path / "a.so", [])
