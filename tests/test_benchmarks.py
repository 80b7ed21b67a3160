"""The benchmarks run on a tiny model, and their statistics say what they claim."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil

import numpy as np
import pytest

from benchmarks import (
    boards,
    conformance,
    farm,
    footprint,
    fusion_speed,
    inner_loops,
    instructions,
    kernels,
    kinds,
    latency,
    machine,
    operators,
    replay,
    spaces,
    standalone,
    torch_import,
    trials,
    tuning,
    turns,
)
from benchmarks.operators import Conv
from tests import models
from tests.compiling import compile_here, reference
from tests.emulator import emulated
from tests.net import Net
from tilewright.analysis import roofline
from tilewright.analysis.roofline import Level, Roofline

MACHINE = Roofline(1, 100e9, (Level("L1", 1 << 15, 200e9), Level("DRAM", None, 10e9)))


@pytest.fixture
def tiny(here, tmp_path, monkeypatch):
    """A zoo of one model, results in a folder of their own, and a machine that is known."""
    folder = tmp_path / "zoo" / "models"
    folder.mkdir(parents=True)
    (folder / "tiny.onnx").write_bytes(models.linear().SerializeToString())
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(roofline, "fma_peak", lambda target, threads: MACHINE.peak)
    monkeypatch.setattr(roofline, "measure", lambda target, threads: MACHINE)
    for module in (latency, fusion_speed, footprint, tuning):
        monkeypatch.setitem(module.MODELS, "tiny", {})
    return ["--models", "tiny", "--zoo", str(tmp_path / "zoo"), "--threads", "1", "--seconds", "0"]


def test_latency(tiny, monkeypatch, capsys):
    # As where OpenVINO is not installed.
    monkeypatch.setattr(latency, "find_spec", lambda name: None if name == "openvino" else True)
    assert latency.main(tiny) == 0
    found = json.loads((machine.RESULTS / "latency.json").read_text())
    row = found["models"]["tiny"]
    run = row["runs"]["1"]
    assert list(run["engines"]) == ["tilewright", "onnxruntime"] and run["errors"] == {}
    assert run["rounds"] >= turns.MIN_ROUNDS
    assert run["limit"] == pytest.approx(row["flops"] / MACHINE.peak)
    mean = found["summary"]["1"]["onnxruntime"]["geometric_mean"]
    assert mean == pytest.approx(run["ratios"]["onnxruntime"]["median"])
    assert "geometric mean onnxruntime/ours" in capsys.readouterr().out


def test_programs_of_pytorch_on_both_roads(tiny, tmp_path, capsys):
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    words = ["--programs", "branch", "--folder", str(tmp_path / "built"), "--seconds", "0.01"]
    assert torch_import.main(words) == 0
    found = json.loads((machine.RESULTS / "torch_import.json").read_text())["models"]["branch"]
    assert list(found["roads"]) == list(found["errors"]) == ["onnx", "relax"]
    assert all(error < 1e-6 for error in found["errors"].values())
    assert found["run"]["ratios"]["relax"]["median"] > 0
    assert "branch" in capsys.readouterr().out


def test_latency_resumes(tiny, monkeypatch):
    assert latency.main(tiny) == 0
    monkeypatch.setattr(latency, "measure", None)
    assert latency.main([*tiny, "--resume"]) == 0


def test_latency_says_what_stopped_a_model(tiny, capsys):
    zoo = tiny.index("--zoo") + 1
    assert latency.main([*tiny[:zoo], "elsewhere", *tiny[zoo + 1 :]]) == 1
    assert "there is no such file" in capsys.readouterr().out


def test_footprint(tiny, capsys):
    assert footprint.main([*tiny[:4], "--runs", "1"]) == 0
    row = json.loads((machine.RESULTS / "footprint.json").read_text())["models"]["tiny"]
    assert row["compile_seconds"] > 0 and row["compile_again_seconds"] > 0
    assert row["library_bytes"] > row["weights_bytes"]
    for engine in ("ours", "onnxruntime"):
        assert row[engine]["load_seconds"] > 0 and row[engine]["peak_bytes"] > 10e6
    assert "tiny" in capsys.readouterr().out


def test_tails_are_compared_with_their_neighbours():
    odd, even = operators.TAILS[0]
    rows = {
        f"tails: {operator}": {"runs": {"1": {"direct_flops_per_second": rate}}}
        for operator, rate in ((odd, 60e9), (even, 80e9))
    }
    assert kernels.tails(rows) == {"1": {f"{odd} / {even}": 0.75}}


def test_fusion_speed(tiny, capsys):
    assert fusion_speed.main(tiny) in (0, 1)
    found = json.loads((machine.RESULTS / "fusion_speed.json").read_text())
    run = found["models"]["tiny"]["runs"]["1"]
    assert list(run["engines"])[:2] == ["all", "none"] and "linear" in run["engines"]
    assert set(run["ratios"]) == set(run["engines"]) - {"all"}


def test_a_fusion_that_costs_time_is_named():
    ratios = {
        "none": {"median": 2.0, "low": 1.9, "high": 2.1},
        "mlp": {"median": 0.9, "low": 0.8, "high": 0.95},
        "norm": {"median": 0.99, "low": 0.9, "high": 1.01},
    }
    (text,) = fusion_speed.losses({"m": {"runs": {"2": {"ratios": ratios}}}})
    assert "m, 2 threads" in text and "without mlp" in text


SMALL = (operators.Conv(8, 6, 16, 3, stride=2, count=3), operators.Gemm(5, 8, 16))


def test_kernels(tiny, monkeypatch, capsys):
    monkeypatch.setitem(kernels.NETWORKS, "small", SMALL)
    assert kernels.main(["--networks", "small", "--threads", "1", "--seconds", "0"]) == 0
    found = json.loads((machine.RESULTS / "kernels.json").read_text())
    conv, gemm = found["operators"].values()
    assert conv["count"] == 3 and conv["runs"]["1"]["rules"] == ["conv"]
    assert gemm["runs"]["1"]["rules"] == ["linear"]
    for row in (conv, gemm):
        run = row["runs"]["1"]
        assert run["share"] == pytest.approx(run["least_seconds"] / run["seconds"])
        assert run["ratio"] == pytest.approx(run["onnxruntime"]["median"] / run["seconds"])
        # A row's last vector may have idle lanes.
        assert row["flops"] <= run["kernel_flops"] < 1.5 * row["flops"]
    assert "of the roof by time" in capsys.readouterr().out


@pytest.mark.parametrize("operator", SMALL, ids=str)
def test_operators_cost_what_their_models_hold(operator, tmp_path):
    proto = kernels.model_of(operator)
    work = compile_here(proto, tmp_path, until="import")
    shape = work.interface["inputs"][0]["shape"]
    (y,) = reference(proto, {"x": np.zeros(shape, np.float32)})
    weights = sum(np.prod(tensor.dims) for tensor in proto.graph.initializer)
    assert operator.bytes == 4 * (np.prod(shape) + weights + y.size)
    terms = np.prod(proto.graph.initializer[0].dims) // y.shape[1]
    assert operator.flops == 2 * terms * y.size


def test_every_network_has_operators_once():
    for rows in operators.NETWORKS.values():
        assert len(set(map(str, rows))) == len(rows) > 3


def test_ratios_pair_the_blocks_of_a_round():
    # The machine halves its speed from round to round: within a round the ratio stays 2.
    rounds = [{"a": [2.0 * slow], "b": [1.0 * slow]} for slow in (1, 2) * 20]
    found = turns.paired_ratio(rounds, "a", "b")
    assert found == {"median": 2.0, "low": 2.0, "high": 2.0}


def test_an_engine_that_cannot_open_its_model_leaves_the_others(tiny, linear_library, tmp_path):
    feed = tmp_path / "feed.npz"
    np.savez(feed, x=np.zeros((2, 64), np.float32))
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    engines = [
        turns.Engine("ours", "tilewright", str(linear_library)),
        turns.Engine("theirs", "onnxruntime", str(tmp_path / "bad.onnx")),
    ]
    found = turns.measure(engines, feed, threads=1, seconds=0)
    assert list(found["engines"]) == ["ours"] and "theirs" in found["errors"]


def test_the_geometric_mean():
    assert turns.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)


def test_tuning(tiny, capsys):
    assert tuning.main([*tiny, "--budget", "0.02"]) == 0
    found = json.loads((machine.RESULTS / "tuning.json").read_text())
    run = found["models"]["tiny"]["runs"]["1"]
    assert list(run["engines"]) == ["tuned", "untuned", "onnxruntime"]
    assert found["summary"]["onnxruntime"] == pytest.approx(run["ratios"]["onnxruntime"]["median"])
    assert "ORT/tuned" in capsys.readouterr().out


def test_boards_of_a_tracker_measure_and_one_may_die(monkeypatch):
    monkeypatch.setattr(farm, "BOARD_PORT", 19690)
    monkeypatch.setattr(farm, "TRACKER_PORT", 19890)
    found = farm.measure(boards=2, trials=8, pause=0.2, dies_after=2)
    assert found["recorded"] == 8 and found["doubled"] == found["failed"] == 0
    assert any("lost" in note and "1 devices are left" in note for note in found["notes"])


@pytest.fixture
def tables(monkeypatch, tmp_path):
    """Tables of tasks whose times follow from two knobs."""
    monkeypatch.setattr(spaces, "SPACES", tmp_path / "spaces")
    monkeypatch.setattr(replay, "PLOT", tmp_path / "replay.svg")
    monkeypatch.setattr(replay, "TASKS", {"first": None, "second": None})
    spaces.SPACES.mkdir()
    for best, name in enumerate(replay.TASKS, 3):
        rows = [{"rule": "conv", "knobs": {}, "facts": {}, "ratio": 1.0}]
        for rows_knob, panels in itertools.product(range(12), range(30)):
            ratio = 0.5 + 0.05 * abs(rows_knob - best) + 0.02 * abs(panels - 20)
            facts = {"rows": float(rows_knob), "panels": float(panels)}
            knobs = {"rows": rows_knob, "panels": panels}
            rows.append({"rule": "conv", "knobs": knobs, "facts": facts, "ratio": ratio})
        data = {"machine": {}, "threads": 1, "whole": True, "rows": rows}
        spaces.file_of(name).write_bytes(gzip.compress(json.dumps(data).encode()))


def test_the_replayed_cost_model_beats_chance(tables, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    assert replay.main(["--seeds", "3"]) == 0
    found = json.loads((tmp_path / "replay.json").read_text())
    for row in found["tasks"].values():
        assert row["choices"] == 360 and row["default"] == pytest.approx(2.0)
        assert row["median"]["cost model"] < row["median"]["random"]
    assert found["summary"]["cost model / random, median"] < 1
    assert (tmp_path / "replay.svg").read_text().count("<svg") == 1
    assert "360 choices" in capsys.readouterr().out


def test_a_table_is_recorded(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(spaces, "SPACES", tmp_path)
    monkeypatch.setattr(spaces, "TASKS", {"small": Conv(16, 6, 24, 1)})
    spaces.record("small", 3, 1)
    table = replay.Table.read("small")
    assert len(table.candidates) == 3 and all(table.ratios.values())
    assert "3 choices" in capsys.readouterr().out


def test_trials_are_timed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(trials, "CONVOLUTIONS", (Conv(16, 6, 24, 1),))
    assert trials.main(["--trials", "2"]) == 0
    (row,) = json.loads((tmp_path / "trials.json").read_text())["sessions"].values()
    assert row["trials"] == 2 and 0 < row["trial_seconds"] < row["seconds"]
    assert "2 choices in" in capsys.readouterr().out


def _case(name, model, inputs, outputs):
    return conformance.Case(name, model, [(inputs, outputs)], 1e-3, 1e-7)


def test_a_conformance_test_passes_or_says_why_not():
    x, y = np.float32([[-1, 2, 3]] * 2), np.float32([[0, 2, 3]] * 2)
    relu = models.unary("Relu")
    assert conformance.run(_case("relu", relu, [x], [y]), False) == conformance.PASS
    assert "Mismatched" in conformance.run(_case("relu", relu, [x], [y + 1]), False)
    assert "is (2, 3), not (3, 2)" in conformance.run(_case("relu", relu, [x], [y.T]), False)
    assert "is float32, not int64" in conformance.run(
        _case("relu", relu, [x], [y.astype(np.int64)]), False
    )
    counts = [models.unconverted("x", "y")], [models.value("x", (3, 3), models.INT64)]
    proto = models.model(*counts, [models.value("y", (3, 3))])
    said = conformance.run(_case("counts", proto, [np.eye(3, dtype=np.int64)], []), False)
    assert said.startswith("import: ") and "cannot be compiled yet" in said


def test_shape_inputs_become_constants():
    net = Net(x=(2, 3))
    model = net.model(net.Unsqueeze("x", net.input("axes", (1,))))
    given = _case("unsqueeze", model, [np.zeros((2, 3), np.float32), np.array([1])], [])
    known = conformance.with_constants(given)
    assert [value.name for value in known.model.graph.input] == ["x"]
    assert [tensor.name for tensor in known.model.graph.initializer] == ["axes"]
    assert len(known.data[0][0]) == 1


def test_changes_against_the_ledger_are_told(capsys):
    known = {"a": "pass", "b": "import: no", "c": "pass"}
    assert conformance.report_changes(known, {"a": "pass", "b": "import: still no"}) == 0
    assert conformance.report_changes(known, {"a": "run: wrong", "b": "pass", "d": "pass"}) == 1
    out = capsys.readouterr().out
    assert all(f"{name}: the ledger says" in out for name in "abd")


def test_boards(tiny, tmp_path):
    emulated("aarch64")
    words = ["--zoo", str(tmp_path / "zoo"), "--models", "tiny", "--targets", "aarch64"]
    assert boards.main(words) == 0
    row = json.loads((machine.RESULTS / "boards.json").read_text())["rows"]["tiny aarch64"]
    assert row["passed"] and row["outputs"][0]["error"] <= row["outputs"][0]["allowed"]
    assert "all of aarch64" in row["inspection"]


def test_standalone(tiny, tmp_path, capsys):
    zoo = str(tmp_path / "zoo")
    words = ["--zoo", zoo, "--models", "tiny", "--threads", "1", "--seconds", "0.2"]
    assert standalone.main(words) == 0
    row = json.loads((machine.RESULTS / "standalone.json").read_text())["models"]["tiny"]
    assert row["runs"]["1"]["ratios"][standalone.VM]["median"] > 0
    assert set(row["load"]) == {standalone.STANDALONE, standalone.VM}
    assert any(name.startswith("pthread_") for name in row["needed"])
    assert "tiny" in capsys.readouterr().out


def test_kinds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    words = ["--kinds", "Einsum", "TopK of a vocabulary", "--threads", "1", "--seconds", "0.1"]
    assert kinds.main(words) == 0
    found = json.loads((machine.RESULTS / "kinds.json").read_text())["kinds"]
    assert all(row["1"]["ratios"][kinds.THEIRS]["median"] > 0 for row in found.values())
    assert "Einsum" in capsys.readouterr().out


def test_inner_loops(tiny, tmp_path, capsys):
    zoo = str(tmp_path / "zoo")
    assert inner_loops.main(["--zoo", zoo, "--models", "tiny", "--targets", "rpi4"]) == 0
    found = json.loads((machine.RESULTS / "inner_loops.json").read_text())
    (row,) = found["kernels"]["rpi4 tiny"]
    assert row["rule"] == "linear" and row["spills"] == 0 and row["multiply_adds"] > 0
    assert found["summary"]["rpi4 linear"]["kernels"] == 1 and "rpi4" in capsys.readouterr().out


def test_an_innermost_loop_is_found():
    listing = [
        *((0, "mov", "x0, #3"), (4, "ldr", "q1, [x1]"), (8, "ldr", "q2, [sp, #16]")),
        *((12, "fmla", "v0.4s, v1.4s, v2.s[0]"), (16, "subs", "x0, x0, #1"), (20, "b.ne", "#0x4")),
        *((24, "str", "q0, [x2]"), (28, "cbnz", "x5, #0x0"), (32, "ret", "")),
    ]
    (loop,) = inner_loops.innermost(listing)
    assert loop == inner_loops.Loop(instructions=5, multiply_adds=1, loads=1, spills=1)
    assert loop.share == 0.4


def test_multiply_adds_are_counted(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(models.linear().SerializeToString())
    assert instructions.multiply_adds(path) == 2 * 64 * 32
    net = Net(x=(1, 8, 6, 6))
    path.write_bytes(net.model(net.Conv("x", net.weight(4, 4, 3, 3), group=2)).SerializeToString())
    assert instructions.multiply_adds(path) == 4 * 4 * 4 * 4 * 9


def test_instructions_are_counted(tiny, tmp_path):
    emulated("aarch64")
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("no qemu-aarch64, which takes plugins (apt-get install qemu-user)")
    words = ["--zoo", str(tmp_path / "zoo"), "--models", "tiny", "--targets", "rpi4"]
    assert instructions.main(words) == 0
    row = json.loads((machine.RESULTS / "instructions.json").read_text())["models"]["tiny rpi4"]
    assert row["multiply_adds"] == 2 * 64 * 32
    assert row["multiply_adds"] / 4 < row["instructions"] < 20 * row["multiply_adds"]


def test_a_selftest_is_read():
    said = "a: b: passed, error 1.00e-07 of the largest value, 2.00e-05 allowed\nselftest passed\n"
    assert boards.outputs(said) == [
        {"name": "a: b", "passed": True, "error": 1e-7, "allowed": 2e-5}
    ]
