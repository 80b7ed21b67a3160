from __future__ import annotations

import numpy as np
import pytest

from tests.command_line import run_job_here
from tilewright.analysis import roofline
from tilewright.analysis.roofline import Level, Roofline
from tilewright.targets import resolve

MACHINE = Roofline(
    1, 100e9, (Level("L1", 1000, 200e9), Level("L2", 9000, 100e9), Level("DRAM", None, 10e9))
)


@pytest.mark.parametrize(
    ("flops", "size", "seconds", "bound"),
    [(1e6, 1000, 1e-5, "compute"), (0, 1001, 1.001e-8, "L2"), (1e3, 10_000, 1e-6, "DRAM")],
)
def test_the_slower_of_arithmetic_and_memory_sets_the_least_time(flops, size, seconds, bound):
    found = MACHINE.least_seconds(flops, size)
    assert found == (pytest.approx(seconds), bound)


def test_survives_json():
    assert Roofline.from_dict(MACHINE.to_dict()) == MACHINE


def test_measures_this_machine(monkeypatch):
    monkeypatch.setattr(roofline, "RUN_SECONDS", 5e-4)
    monkeypatch.setattr(roofline, "LEAST_DRAM_BYTES", 1 << 20)
    monkeypatch.setattr(roofline, "MOST_DRAM_BYTES", 1 << 20)
    found = Roofline.from_dict(run_job_here(f"{roofline.__name__}:roofline_job", {"threads": 2}))
    # Any x86-64 core of the last twenty years, and none there is.
    assert 1e9 < found.peak < 2e12
    assert [level.name for level in found.levels][-1] == "DRAM" and found.levels[-1].holds is None
    assert all(1e8 < level.bandwidth < 2e13 for level in found.levels)


def test_the_measuring_kernels_compute_what_they_say():
    target = resolve("native")
    lanes = roofline._lanes(target)
    a, b, c, times = (roofline._array(n) for n in (8 * lanes, 8 * lanes, 8 * lanes, 3))
    roofline._triad_kernel(target)(a, b, c, times)
    assert np.array_equal(a.numpy(), np.full(8 * lanes, 0.75, np.float32))
    sums = roofline._array(roofline.SUMS * lanes)
    roofline._fma_kernel(target)(sums, times)
    # s -> s / 2 + 1 / 2 goes to 1.
    assert np.array_equal(sums.numpy(), np.ones(roofline.SUMS * lanes, np.float32))
