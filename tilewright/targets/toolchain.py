"""C compilers: they compile the thread pool, assemble the weights, and link all.

This machine's own for code that runs here; for other machines Zig's, which comes with pip and has
every target's C library; or one that the user names.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tilewright.errors import OptionError, OutputError, ToolchainError
from tilewright.targets import host
from tilewright.targets.target import Target

_CANDIDATES = ("cc", "gcc", "clang")
LINK_SECONDS = 600
# The first glibc of each architecture, but for x86-64's: what was linked to it runs on any later.
OLDEST_GLIBC = {"x86_64": "2.17", "aarch64": "2.17", "armv7": "2.17", "riscv64": "2.27"}
# What Zig calls the families and C libraries of triples.
_ZIG = {"armv7": "arm"}


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


@dataclass(frozen=True)
class Toolchain:
    """A C compiler as a command; none: this machine's, found when it is needed.

    `joins` is a linker that gives symbols other names, where the compiler's cannot; `archiver`
    makes archives; `glibc` is the oldest version that the results run with, where it is known.
    """

    command: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    archiver: tuple[str, ...] = ("ar",)
    glibc: str | None = None

    def link_shared(
        self,
        output: Path,
        files: Sequence[Path],
        names: Mapping[str, str] | None = None,
        exported: Path | None = None,
    ) -> None:
        """Link objects, archives and assembly `files` into the shared library `output`.

        `names` are further symbols of the library, each with the one that it stands for;
        `exported` is a version script with those that programs see, by default all.
        """
        flags = ["-shared", "-fPIC", *_LINKING]
        renamed = [f"--defsym={name}={other}" for name, other in (names or {}).items()]
        with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
            if renamed and self.joins:
                joined = Path(folder) / "joined.o"
                _run([*self.joins, "-r", *renamed, "-o", str(joined), *map(str, files)], output)
                files, renamed = [joined], []
            flags += [f"-Wl,{flag}" for flag in renamed]
            flags += [f"-Wl,--version-script={exported}"] if exported else []
            self._cc(output, flags, files, "-lm")

    def archive(self, output: Path, files: Sequence[Path]) -> None:
        """Collect the objects `files` in the static library `output`."""
        _run([*self.archiver, "rcs", str(output), *map(str, files)], output)

    def link_program(self, output: Path, files: Sequence[Path], *flags: str) -> None:
        """Compile and link C sources and objects `files` into the program `output`."""
        self._cc(output, ["-std=gnu11", "-O2", *_LINKING, *flags], files, "-ldl", "-lm")

    def compile_c(self, source: Path, output: Path, *folders: Path) -> None:
        """Compile the C file `source` into an object for a library that shows marked names alone.

        Headers are also looked for in `folders`.
        """
        self._cc(output, [*_COMPILING, *(f"-I{folder}" for folder in folders)], [source])

    def assemble(self, source: Path, output: Path) -> None:
        """Assemble `source` into the object file `output`."""
        self._cc(output, ["-c"], [source])

    def identity(self) -> tuple[object, ...]:
        """What changes when the compiler does: the command, and each file in it.

        Files are known by size and date, as ccache knows compilers.
        """
        command = self.command or (find_c_compiler(),)
        found = [Path(path) for word in command if (path := shutil.which(word))]
        files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime) for path in found]
        zig = [version("ziglang")] if "ziglang" in command else []
        return (_COMPILING, *command, *files, *zig)

    def _cc(self, output: Path, flags: list[str], files: Sequence[Path], *libraries: str) -> None:
        command = self.command or (find_c_compiler(),)
        _run([*command, *flags, "-o", str(output), *map(str, files), *libraries], output)


_COMPILING = ("-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread", "-c")
# Build ids and local symbols name this machine's folders: leave them out. Symbols are looked up
# at load: a worker thread that did so later would need the loader, which unloading holds.
_LINKING = [
    "-pthread",
    *("-Wl,--build-id=none", "-Wl,-s", "-Wl,-z,noexecstack", "-Wl,-z,now"),
]
HOST = Toolchain()


def toolchain_for(target: Target, glibc: str | None = None, cc: str | None = None) -> Toolchain:
    """What links for `target`: `cc` when it is given, this machine's own compiler, or Zig's.

    `glibc` is the oldest version that the result is to run with. Raises ToolchainError with the
    command that installs Zig.
    """
    if cc is not None:
        return _named(cc, glibc)
    musl = "musl" in target.triple
    if target.machine.is_here(host.detect().machine) and not glibc and not musl:
        return HOST
    if importlib.util.find_spec("ziglang") is None:
        raise ToolchainError(
            f"nothing here links for {target.triple}",
            expected="the package ziglang, or a C compiler named with --cc",
            hint="pip install 'tilewright[cross]'",
        )
    zig = (sys.executable, "-m", "ziglang")
    # The vendor, in the middle, may be left out.
    family, *_vendor, system, libc = target.triple.split("-")
    oldest = None if musl else glibc or OLDEST_GLIBC[family]
    triple = f"{_ZIG.get(family, family)}-{system}-{libc}" + (f".{oldest}" if oldest else "")
    return Toolchain((*zig, "cc", "-target", triple), (*zig, "ld.lld"), (*zig, "ar"), glibc=oldest)


def _named(cc: str, glibc: str | None) -> Toolchain:
    """The compiler that the user names."""
    words = shlex.split(cc)
    if not words or shutil.which(words[0]) is None:
        raise ToolchainError(f"there is no compiler {cc!r}", expected="a command on PATH, for --cc")
    if glibc is not None:
        raise OptionError(
            f"--glibc {glibc} with --cc {cc}",
            expected="one of them: a compiler links for the C library that it brings",
        )
    return Toolchain(tuple(words))


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
