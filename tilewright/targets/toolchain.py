"""The C compiler of this machine: compiles the thread pool, assembles the weights, links all."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tilewright.errors import OutputError, ToolchainError

_CANDIDATES = ("cc", "gcc", "clang")
LINK_SECONDS = 600


def find_c_compiler() -> str:
    """Path of the C compiler: $CC, or the first of cc, gcc, clang.

    Raises ToolchainError with the command that installs one.
    """
    wanted = os.environ.get("CC")
    for name in (wanted,) if wanted else _CANDIDATES:
        if found := shutil.which(name):
            return found
    raise ToolchainError(
        f"no C compiler: {'$CC is ' + wanted if wanted else ', '.join(_CANDIDATES) + ' not found'}",
        expected="a C compiler on PATH; it links the library",
        hint="Debian and Ubuntu: apt-get install gcc; Fedora: dnf install gcc",
    )


def link_shared(output: Path, files: list[Path], names: Mapping[str, str] | None = None) -> None:
    """Link objects, archives and assembly `files` into the shared library `output`.

    `names` are further symbols of the library, each with the one that it stands for.
    """
    # Build ids and local symbols name this machine's folders: leave them out. Symbols are looked up
    # at load: a worker thread that did so later would need the loader, which unloading holds.
    flags = ["-shared", "-fPIC", "-pthread", "-Wl,--build-id=none", "-Wl,-s"]
    flags += ["-Wl,-z,noexecstack", "-Wl,-z,now"]
    flags += [f"-Wl,--defsym={name}={other}" for name, other in (names or {}).items()]
    _run([find_c_compiler(), *flags, "-o", str(output), *map(str, files), "-lm"], output)


def compile_c(source: Path, output: Path) -> None:
    """Compile the C file `source` into an object for a library that shows marked names alone."""
    flags = ["-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread"]
    _run([find_c_compiler(), *flags, "-c", "-o", str(output), str(source)], output)


def assemble(source: Path, output: Path) -> None:
    """Assemble `source` into the object file `output`."""
    _run([find_c_compiler(), "-c", "-o", str(output), str(source)], output)


def _run(command: list[str], output: Path) -> None:
    # Not through a pipe: processes that are forked meanwhile would hold it open.
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        try:
            done = subprocess.run(
                command, stdout=said, stderr=said, timeout=LINK_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ToolchainError(
                f"{command[0]} did not finish within {LINK_SECONDS} s", where=output.name
            ) from error
        said.seek(0)
        text = said.read()
    if done.returncode == 0:
        return
    message = " ".join(text.split()[-60:])
    if "No space left" in text:
        raise OutputError(
            "the disk is full", where=str(output), hint="free space, or set TMPDIR elsewhere"
        )
    raise ToolchainError(
        f"{command[0]} failed with exit code {done.returncode}: {message}", where=output.name
    )
