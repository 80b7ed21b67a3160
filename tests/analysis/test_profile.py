from __future__ import annotations

import pytest

from tests import models
from tests.command_line import run_job_here
from tests.compiling import compile_here
from tests.net import Net
from tilewright.analysis import profile, roofline
from tilewright.analysis.roofline import Level, Roofline

MACHINE = Roofline(1, 100e9, (Level("L1", 1 << 15, 200e9), Level("DRAM", None, 10e9)))


@pytest.fixture
def quick(here, monkeypatch):
    """Jobs run here, and the machine is known."""
    monkeypatch.setattr(roofline, "of_this_machine", lambda threads: MACHINE)


def test_kernels_make_up_the_run(quick, tmp_path):
    net = Net(x=(64, 256))
    y = net.Softmax(net.Relu(net.MatMul("x", net.weight(256, 512))))
    library = compile_here(net.model(y), tmp_path).library
    found = profile.measure(library, threads=1, seconds=0.05)
    assert found["runs"] >= profile.MIN_RUNS
    inside = sum(row["seconds"] for row in found["kernels"])
    assert found["kernel_seconds"] == pytest.approx(inside)
    assert found["rest_seconds"] == pytest.approx(found["seconds"] - inside)
    # The machine may be busy: between the runs with and without the clock lies some noise.
    assert 0.5 * found["seconds"] < inside < 1.5 * found["seconds"]
    times = [row["seconds"] for row in found["kernels"]]
    assert times == sorted(times, reverse=True)


def test_rates_follow_from_operations_bytes_and_time(quick, tmp_path):
    net = Net(x=(64, 256))
    library = compile_here(net.model(net.MatMul("x", net.weight(256, 512))), tmp_path).library
    (row,) = [r for r in profile.measure(library, threads=1, seconds=0)["kernels"] if r["fusion"]]
    assert row["flops"] == pytest.approx(2 * 64 * 256 * 512, rel=0.02)
    assert row["bytes"] == 4 * (64 * 256 + 256 * 512 + 64 * 512)
    assert row["calls"] == 1 and len(row["nodes"]) == 1
    assert row["flops_per_second"] == pytest.approx(row["flops"] / row["seconds"])
    assert row["bytes_per_second"] == pytest.approx(row["bytes"] / row["seconds"])
    assert row["bound"] == "compute"
    assert row["roof_share"] == pytest.approx(row["flops"] / 100e9 / row["seconds"])


def test_a_kernel_that_runs_twice_is_timed_twice(quick, tmp_path):
    net = Net(x=(4, 8))
    once = net.Softmax(net.Relu(net.MatMul("x", net.weight(8, 8))))
    model = net.model(net.Relu(net.MatMul(once, net.weight(8, 8))))
    library = compile_here(model, tmp_path).library
    rows = profile.measure(library, threads=1, seconds=0)["kernels"]
    assert [row["calls"] for row in rows if row["fusion"] == "linear"] == [2]


def test_open_sizes_leave_operations_unknown(quick, tmp_path):
    library = compile_here(models.mlp_block("tokens"), tmp_path).library
    for row in profile.measure(library, threads=1, seconds=0)["kernels"]:
        assert row["flops"] is None and row["flops_per_second"] is None
        assert row["bound"] in ("L1", "DRAM") and row["bytes"] > 0


def test_of_a_table_only_the_rows_looked_up_count():
    assert profile._moved({"kind": "Embedding", "ids": [[1, 4]]}, [1 << 30, 32, 128]) == 256
    assert profile._moved(None, [4, 8]) == 12


def test_the_clock_pairs_ends_with_their_begins():
    clock = profile.Clock({"f", "g"})
    clock.look(None, "f", True, None)
    clock.look(None, "g", True, None)
    for name in ("f", "vm.builtin", "g", "f"):
        clock.tick(None, name, True)
        clock.tick(None, name, False)
    assert clock.calls() == {"f": 2, "g": 1}
    assert all(0 <= seconds < 1e-2 for seconds in clock.seconds().values())
    clock.start()
    assert clock.calls() == {"f": 0, "g": 0}


def test_the_job_says_what_it_does(here, linear_library):
    events = []
    job = {"library": str(linear_library), "threads": 1, "inputs": [], "seed": 0, "seconds": 0}
    run_job_here(f"{profile.__name__}:profile_job", job, events.append)
    assert [event["event"] for event in events] == ["start", "done"]
