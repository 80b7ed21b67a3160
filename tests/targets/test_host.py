from __future__ import annotations

import os

import pytest

from tilewright.errors import TargetError
from tilewright.targets import host

CPUINFO = """\
processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 85
model name	: Intel(R) Xeon(R) Platinum 8275CL: a colon
flags		: fpu sse2 pni ssse3 sse4_1 sse4_2 avx fma avx2 avx512f abm something_new

processor	: 1
vendor_id	: SomebodyElse
"""


def test_reads_the_first_processor(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(CPUINFO)
    found = host.detect(file)
    assert (found.vendor, found.family, found.model) == ("GenuineIntel", 6, 85)
    assert found.title == "Intel(R) Xeon(R) Platinum 8275CL: a colon"
    assert found.features == {
        *("sse3", "ssse3", "sse4.1", "sse4.2", "avx", "fma", "avx2", "avx512f", "lzcnt")
    }


ARM = """\
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3
"""


def test_reads_a_raspberry_pi(tmp_path, monkeypatch):
    monkeypatch.setattr(host.platform, "machine", lambda: "aarch64")
    file = tmp_path / "cpuinfo"
    file.write_text(ARM)
    found = host.detect(file)
    assert (found.vendor, found.family, found.model) == ("ARM", 8, 0xD08)
    assert found.features == {"fp-armv8", "neon", "crc"}


def test_reads_a_risc_v_board(tmp_path, monkeypatch):
    monkeypatch.setattr(host.platform, "machine", lambda: "riscv64")
    file = tmp_path / "cpuinfo"
    file.write_text("processor : 0\nisa : rv64imafdc_zicsr\nuarch : sifive,u74-mc\n")
    assert host.detect(file).features == {"m", "a", "f", "d", "c"}


def test_a_strange_cpuinfo_is_an_unknown_cpu(tmp_path):
    (tmp_path / "cpuinfo").write_text("Processor: ARMv7\n")
    found = host.detect(tmp_path / "cpuinfo")
    assert (found.vendor, found.family, found.features) == ("unknown", 0, frozenset())


def test_no_cpuinfo_is_a_target_error(tmp_path):
    with pytest.raises(TargetError, match="cannot tell what this machine is"):
        host.detect(tmp_path / "absent")


def test_without_cpuinfo_an_arm_board_says_it_to_programs(tmp_path, monkeypatch):
    class Libc:
        def __init__(self, _name):
            words = {16: 1 << 1 | 1 << 20, 26: 1 << 13}
            self.getauxval = type("F", (), {"__call__": lambda _self, n: words[n]})()

    monkeypatch.setattr(host.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(host.ctypes, "CDLL", Libc)
    found = host.detect(tmp_path / "absent")
    assert found.features == {"neon", "dotprod", "i8mm"} and found.vendor == "unknown"


def test_reads_cache_sizes_and_skips_instructions(tmp_path):
    rows = [(1, "Instruction", "64K"), (1, "Data", "48K"), (2, "Unified", "2M"), (3, "x", "1024")]
    for number, facts in enumerate(rows):
        (tmp_path / f"index{number}").mkdir()
        for name, value in zip(("level", "type", "size"), facts, strict=True):
            (tmp_path / f"index{number}" / name).write_text(f"{value}\n")
    (tmp_path / "index9").mkdir()  # A virtual machine may leave files out.
    sizes = [host._cache_bytes(level, tmp_path) for level in (1, 2, 3, 4)]
    assert sizes == [48 << 10, 2 << 20, 1024, 0]


@pytest.mark.parametrize(
    "files, quota",
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
        ({"cpu.max": "strange"}, None),
    ],
)
def test_reads_the_quota_of_either_cgroup(files, quota, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert host.cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(
    "cpus, quota, threads", [(8, None, 8), (8, 1.5, 2), (8, 0.5, 1), (2, 6.0, 2), (4, 4.0, 4)]
)
def test_threads_are_those_the_process_may_use(cpus, quota, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cpus)))
    monkeypatch.setattr(host, "cgroup_quota", lambda: quota)
    monkeypatch.delenv("TILEWRIGHT_THREADS", raising=False)
    assert host.default_threads() == threads


@pytest.mark.parametrize("text, wanted", [("3", 3), ("0", None), ("-1", None), ("many", None)])
def test_threads_in_the_environment_come_first(text, wanted, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(5)))
    monkeypatch.setattr(host, "cgroup_quota", lambda: None)
    monkeypatch.setenv("TILEWRIGHT_THREADS", text)
    assert host.threads_in_environment() == wanted
    assert host.default_threads() == (wanted or 5)
