"""examples/board builds with make and with CMake, and runs."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import tilewright
from tests import models
from tests.command_line import ROOT
from tests.emulator import emulated
from tilewright.options import CompileOptions

NET = CompileOptions(standalone="net")


@pytest.fixture
def place(tmp_path):
    """A copy of the example, and of a model beside it."""
    folder = shutil.copytree(ROOT / "examples" / "board", tmp_path / "board")
    tilewright.compile(models.linear("n"), options=NET).save(folder / "libnet.so")
    return folder


def _said(*words) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _works(folder) -> None:
    assert _said(folder / "main_c", "3") == "output 0: 384 bytes, its first size is 3\n"
    assert _said(folder / "main_cpp", "5") == "two models agree: yes\n"
    done = subprocess.run([folder / "main_c", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "dimension n is 0, and may be 1.." in done.stderr


def test_with_make(place):
    _said("make", "-C", place, "CFLAGS=-Wall -Wextra -Werror", "CXXFLAGS=-Wall -Wextra -Werror")
    _works(place)


def test_with_cmake(place):
    if shutil.which("cmake") is None:
        pytest.skip("no cmake (apt-get install cmake)")
    _said("cmake", "-S", place, "-B", place / "build", f"-DMODEL={place}")
    _said("cmake", "--build", place / "build")
    _works(place / "build")


def test_for_a_board(place):
    prefix = emulated("aarch64")
    tilewright.compile(models.linear("n"), "aarch64", options=NET).save(place / "libnet.so")
    zig = f"{sys.executable} -m ziglang cc -target aarch64-linux-gnu.2.17"
    _said("make", "-C", place, "main_c", f"CC={zig}")
    said = _said(*prefix, "-E", f"LD_LIBRARY_PATH={place}", place / "main_c", "3")
    assert said == "output 0: 384 bytes, its first size is 3\n"
