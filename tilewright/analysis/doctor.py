"""What is installed, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import re
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from tilewright.errors import TilewrightError
from tilewright.targets import host, resolve, toolchain


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `needed`: nothing compiles without it. `mend`: what to type."""

    name: str
    good: bool
    found: str
    mend: str | None = None
    needed: bool = True

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything a compilation needs."""
    return [_python(), _machine(), *_packages(), _compiler(), _temporary_folder(), _threads()]


def _python() -> Finding:
    return Finding("Python", sys.version_info >= (3, 10), platform.python_version())


def _machine() -> Finding:
    try:
        row = resolve("native")
    except TilewrightError as error:
        return Finding("this machine", False, error.what, error.hint)
    return Finding("this machine", True, f"{row.title}, {row.vector_bits}-bit vectors")


def _packages() -> list[Finding]:
    """The dependencies that our own metadata names, extras included, with their ranges."""
    from packaging.requirements import Requirement

    findings = []
    for text in requires("tilewright") or []:
        wanted = Requirement(text)
        extra = re.search(r"extra\s*==\s*['\"](\w+)", text)
        try:
            found = version(wanted.name)
            good = wanted.specifier.contains(found, prereleases=True)
        except PackageNotFoundError:
            found, good = "not installed", False
        mend = None if good else f"pip install '{wanted.name}{wanted.specifier}'"
        name = f"{wanted.name} (extra {extra[1]})" if extra else wanted.name
        findings.append(Finding(name, good, found, mend, needed=extra is None))
    return findings


def _compiler() -> Finding:
    try:
        return Finding("C compiler", True, toolchain.find_c_compiler())
    except TilewrightError as error:
        return Finding("C compiler", False, error.what, error.hint)


def _temporary_folder() -> Finding:
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile():
            return Finding("temporary files", True, folder)
    except OSError as error:
        return Finding(
            "temporary files", False, f"{folder}: {error.strerror}", "set TMPDIR to another folder"
        )


def _threads() -> Finding:
    quota = host.cgroup_quota()
    limit = f", cgroup quota {quota:g} CPUs" if quota else ""
    if host.threads_in_environment():
        limit = ", from TILEWRIGHT_THREADS"
    return Finding("threads by default", True, f"{host.default_threads()}{limit}")
