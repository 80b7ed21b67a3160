"""What this machine is: its CPU features, caches, and how many threads it may use.

Reads what Linux says and needs nothing but the standard library: loading a compiled model
goes through here.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from tilewright.errors import TargetError
from tilewright.targets.isa import MACHINES, Machine
from tilewright.targets.target import Target

# AT_HWCAP, AT_HWCAP2.
_HWCAP = (16, 26)


@dataclass(frozen=True)
class Host:
    """The CPU as the kernel reports it; cache sizes in bytes, 0 where it does not say."""

    machine: str
    vendor: str
    family: int
    model: int
    title: str
    features: frozenset[str]
    l1d_bytes: int
    l2_bytes: int
    l3_bytes: int


@functools.cache
def detect(cpuinfo: Path = Path("/proc/cpuinfo")) -> Host:
    """Read the first processor's entry of `cpuinfo` and its caches from sysfs.

    Without it, as in some containers, Arm's and RISC-V's features are what Linux tells programs.
    """
    name = platform.machine()
    family = next((machine for machine in MACHINES if machine.is_here(name)), None)
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError as error:
        if family is None or not family.hwcap:
            raise TargetError(
                f"cannot tell what this machine is: {error}",
                expected="a Linux system with /proc mounted",
                hint="name a target with -t; `tilewright targets` lists them",
            ) from error
        text, features = "", _told_to_programs(family)
    entry = dict(_fields(text.split("\n\n")[0]))
    if text:
        flags, known = _flags(entry), family.features if family else {}
        features = frozenset(feature for feature, flag in known.items() if flag in flags)
    vendor, number, model = _family_model(entry)
    return Host(
        machine=name,
        vendor=vendor,
        family=number,
        model=model,
        title=entry.get("model name", name),
        features=features,
        l1d_bytes=_cache_bytes(1),
        l2_bytes=_cache_bytes(2),
        l3_bytes=_cache_bytes(3),
    )


def _told_to_programs(family: Machine) -> frozenset[str]:
    """Features by the bits of AT_HWCAP and AT_HWCAP2 (getauxval(3))."""
    libc = ctypes.CDLL(None)
    libc.getauxval.restype, libc.getauxval.argtypes = ctypes.c_ulong, (ctypes.c_ulong,)
    words = [libc.getauxval(number) for number in _HWCAP]
    bits = family.hwcap.items()
    return frozenset(name for name, (word, bit) in bits if words[word] >> bit & 1)


def lacks(target: Target) -> list[str]:
    """What this machine lacks to run code for `target`: its family, or features. Empty: nothing."""
    here = detect()
    return target.missing_on(here.machine, here.features)


def _family_model(entry: dict[str, str]) -> tuple[str, int, int]:
    """The CPU as x86 says it, or as Arm's cores do: ("ARM", architecture, part)."""
    if "CPU part" in entry:
        vendor = "ARM" if entry.get("CPU implementer") == "0x41" else "unknown"
        architecture = entry.get("CPU architecture", "0")
        return vendor, int(architecture) if architecture.isdigit() else 0, int(entry["CPU part"], 0)
    family, model = entry.get("cpu family", "0"), entry.get("model", "0")
    return entry.get("vendor_id", "unknown"), int(family), int(model)


def _flags(entry: dict[str, str]) -> set[str]:
    """What /proc/cpuinfo lists: `flags` of x86, `Features` of Arm, the letters of RISC-V's isa."""
    if "isa" in entry:
        return set(entry["isa"].partition("_")[0].removeprefix("rv64"))
    return set(entry.get("flags", entry.get("Features", "")).split())


def _fields(entry: str) -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in entry.splitlines() if ":" in line)
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _cache_bytes(level: int, root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    for index in sorted(root.glob("index*")):
        try:
            facts = {name: (index / name).read_text().strip() for name in ("level", "type", "size")}
        except OSError:
            continue
        if int(facts["level"]) == level and facts["type"] != "Instruction":
            units = {"K": 1024, "M": 1024**2, "G": 1024**3}
            size = facts["size"]
            return int(size[:-1]) * units[size[-1]] if size[-1] in units else int(size)
    return 0


def default_threads() -> int:
    """$TILEWRIGHT_THREADS, else the CPU affinity, cut to the cgroup's CPU quota.

    A library that is loaded without this package does the same (`compiler/pool.c`).
    """
    if wanted := threads_in_environment():
        return wanted
    cpus = len(os.sched_getaffinity(0))
    quota = cgroup_quota()
    return max(1, min(cpus, math.ceil(quota)) if quota else cpus)


def threads_in_environment() -> int | None:
    """$TILEWRIGHT_THREADS when it is a number above 0."""
    text = os.environ.get("TILEWRIGHT_THREADS", "")
    return int(text) or None if text.isdecimal() else None


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs the cgroup may use on average, None when unlimited.

    Reads `cpu.max` (cgroup v2) or `cpu.cfs_quota_us` (v1):
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
