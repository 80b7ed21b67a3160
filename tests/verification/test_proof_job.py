from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper

import tilewright
from tests import models
from tests.command_line import run_job_here
from tests.compiling import compile_here
from tilewright.errors import InputError, OptionError
from tilewright.verification import proof_job
from tilewright.verification.engines import Engines
from tilewright.verification.strategies import FLOAT_KINDS

JOB = "tilewright.verification.proof_job:proof_job"


@pytest.fixture(autouse=True)
def own_memory(tmp_path, monkeypatch):
    """Failures are remembered between runs: not between tests."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def _job(library, model, **fields):
    job = {"shapes": {}, "dims": {}, "seed": 0, "threads": 1, "inputs": [], "data": None}
    job |= {"examples": 12, "budget": 60.0, "failures": None, "failing_inputs": None}
    return {**job, "library": str(library), "model": str(model), **fields}


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A model with an open dimension, and its library."""
    folder = tmp_path_factory.mktemp("linear")
    proto = models.linear("n")
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return compile_here(proto, folder).library, folder / "m.onnx"


def _without_relu(tmp_path):
    """The library of `linear` without its last step: wrong where the result is negative."""
    proto = models.linear("n")
    last = proto.graph.node[-1]
    assert last.op_type == "Relu"
    last.op_type = "Identity"
    return compile_here(proto, tmp_path).library


def test_one_library_is_tried_at_many_shapes(linear):
    events = []
    found = run_job_here(JOB, _job(*linear), events.append)
    assert found["passed"] and len(found["examples"]) == 12 and found["refused"] == 0
    assert len({example["dims"]["n"] for example in found["examples"]}) > 3
    assert len({example["kind"] for example in found["examples"]}) > 2
    assert found["no_truth"] is None
    assert "12 examples, " in events[-1]["note"]
    assert any("12 of 12 examples, n=" in event.get("step", "") for event in events)


def test_the_same_seed_draws_the_same(linear):
    first, second = (run_job_here(JOB, _job(*linear, seed=3)) for _ in range(2))
    assert first["examples"] == second["examples"]


def test_a_failure_shrinks_and_is_written_down(linear, tmp_path):
    library, model = _without_relu(tmp_path), linear[1]
    found = run_job_here(JOB, _job(library, model, failures=str(tmp_path / "failures")))
    failure = found["failure"]
    assert not found["passed"] and failure["dims"] == {"n": 1}
    assert failure["verdicts"][0]["ours"] < 0 and failure["verdicts"][0]["truth"] >= 0
    (folder,) = (tmp_path / "failures").iterdir()
    assert failure["folder"] == str(folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {"m.onnx", "inputs.npz", "facts.json", "test_reproduction.py"}
    assert np.load(folder / "inputs.npz")["x"].shape == (1, 64)
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["dims"] == {"n": 1} and "apache-tvm" in facts["versions"]
    # What compiles right passes the reproduction's test: the fault was in the library alone.
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", str(folder)], cwd=tmp_path)
    assert done.returncode == 0


def test_a_known_failure_is_tried_first(linear, tmp_path, monkeypatch):
    library, model = _without_relu(tmp_path), linear[1]
    run_job_here(JOB, _job(library, model))
    tried = []
    stock = Engines.run

    def counted(self, inputs):
        tried.append(dict(inputs))
        return stock(self, inputs)

    monkeypatch.setattr(Engines, "run", counted)
    monkeypatch.setattr(proof_job.Session, "calibrate", lambda self, seed: None)
    found = run_job_here(JOB, _job(library, model, seed=99))
    assert not found["passed"] and tried[0]["x"].shape == (1, 64)
    assert found["examples"] == []


def test_given_inputs_are_the_only_example(linear, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 64), np.float32))
    found = run_job_here(JOB, _job(*linear, inputs=[f"x={tmp_path / 'x.npy'}"]))
    assert [(e["dims"], e["kind"]) for e in found["examples"]] == [({"n": 5}, "given")]


def test_files_come_first(linear, tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    np.savez(folder / "a.npz", x=np.ones((2, 64), np.float32))
    np.save(folder / "b.npy", np.ones((3, 64), np.float32))
    (folder / "notes.txt").write_text("not an input")
    found = run_job_here(JOB, _job(*linear, data=str(folder), examples=2))
    kinds = [example["kind"] for example in found["examples"]]
    assert kinds[:2] == ["file a.npz", "file b.npy"] and len(kinds) == 4


@pytest.mark.parametrize("files", [{}, {"a.npz": {"z": np.ones(2)}}])
def test_a_folder_without_inputs_is_refused(files, linear, tmp_path):
    for name, arrays in files.items():
        np.savez(tmp_path / name, **arrays)
    (tmp_path / "d").mkdir()
    folder = tmp_path if files else tmp_path / "d"
    with pytest.raises(InputError):
        run_job_here(JOB, _job(*linear, data=str(folder)))


def test_stops_when_its_time_is_up(linear):
    found = run_job_here(JOB, _job(*linear, examples=10**6, budget=0.5))
    assert found["passed"] and found["stopped"] == "after 0 s" and found["examples"]


def test_what_onnxruntime_refuses_is_counted_and_not_compared(tmp_path):
    """A model that takes even sizes only."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"])]
    proto = models.model(
        nodes,
        [models.value("x", ("n",))],
        [models.value("y", (2, None))],
        {"s": np.array([2, -1])},
    )
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    library = compile_here(proto, tmp_path).library
    found = run_job_here(JOB, _job(library, tmp_path / "m.onnx"))
    assert found["passed"] and found["refused"] > 0 and "n=" in found["refusal"]
    assert all(example["dims"]["n"] % 2 == 0 for example in found["examples"])


def test_onnxruntimes_error_is_learnt_at_sizes_that_it_takes(tmp_path):
    """Of 16, to multiples of which most of the sizes that are tried first do not belong."""
    proto = models.model(
        [
            helper.make_node("Reshape", ["x", "s"], ["rows"]),
            helper.make_node("Softmax", ["rows"], ["y"]),
        ],
        [models.value("x", ("n",))],
        [models.value("y", (16, None))],
        {"s": np.array([16, -1])},
    )
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    library = compile_here(proto, tmp_path).library
    session = proof_job.Session(_job(library, tmp_path / "m.onnx"), lambda *_, **__: None)
    session.calibrate(0)
    assert len(session.engines._tolerance.seen["y"]) == len(FLOAT_KINDS)


def test_without_a_reference_in_double_precision(tmp_path):
    proto = models.model(
        [helper.make_node("BiasGelu", ["x", "b"], ["y"], domain="com.microsoft")],
        [models.value("x", ("n", 8))],
        [models.value("y", ("n", 8))],
        {"b": models.weight("b", (8,))},
        opsets=[helper.make_opsetid("com.microsoft", 1)],
    )
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    found = run_job_here(JOB, _job(compile_here(proto, tmp_path).library, tmp_path / "m.onnx"))
    assert found["passed"] and "BiasGelu" in found["no_truth"]


def test_wrong_inputs_are_ours_to_refuse_not_onnxruntimes(linear, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 63), np.float32))
    with pytest.raises(InputError, match=r"\[5, 63\]"):
        run_job_here(JOB, _job(*linear, inputs=[f"x={tmp_path / 'x.npy'}"]))


@pytest.mark.parametrize("fields", [{"examples": 0}, {"budget": 0}, {"data": "no/such/folder"}])
def test_the_front_door_refuses_what_cannot_be_meant(fields, linear):
    with pytest.raises(OptionError):
        tilewright.verify(linear[0], model=linear[1], **fields)


def test_one_example_is_compared_whatever_the_budget(linear):
    found = run_job_here(JOB, _job(*linear, budget=1e-9))
    assert len(found["examples"]) == 1 and found["stopped"]
