"""Boards without boards: QEMU's user mode, with a C library of the board's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tilewright.targets import resolve

# QEMU's name of a family, and the folder where Debian's libc6-*-cross puts its C library.
_KINDS = {
    "aarch64": ("qemu-aarch64", "/usr/aarch64-linux-gnu"),
    "armv7": ("qemu-arm", "/usr/arm-linux-gnueabihf"),
}
# Boards that tests run code of.
EMULATED = ("rpi4", "aarch64", "rpi3-32")


def emulated(name: str, cpu: str | None = None) -> tuple[str, ...]:
    """What runs a program of the board `name`; the test is skipped where there is nothing."""
    emulator, root = _KINDS[resolve(name).machine.name]
    found = shutil.which(f"{emulator}-static") or shutil.which(emulator)
    if found is None or not Path(root).is_dir():
        pytest.skip(f"no {emulator}, or no C library in {root} (apt-get install qemu-user-static)")
    return (found, *(("-cpu", cpu) if cpu else ()), "-L", root)
