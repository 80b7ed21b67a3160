from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.command_line import run_job_here
from tests.compiling import compile_here
from tilewright.errors import InputError, ModelError
from tilewright.verification.verify_job import complete_inputs, open_session

JOB = "tilewright.verification.verify_job:verify_job"


def _job(library, model, **fields):
    job = {"shapes": {}, "dims": {}, "seed": 0, "inputs": [], "threads": 1, "golden": None}
    return {**job, "library": str(library), "model": str(model), **fields}


def test_tries_two_sizes_of_an_open_dimension(tmp_path, model_file):
    proto = models.linear("n")
    events = []
    found = run_job_here(
        JOB, _job(compile_here(proto, tmp_path).library, model_file(proto)), events.append
    )
    assert [run["dims"] for run in found["runs"]] == [{"n": 1}, {"n": 9}]
    assert found["passed"] and "within the error budget" in events[-1]["note"]
    assert found["reference"].startswith("ONNX Runtime ") and found["subject"] == "model.onnx"


def test_given_inputs_are_used_once(tmp_path, model_file):
    proto = models.linear("n")
    np.save(tmp_path / "x.npy", np.ones((5, 64), np.float32))
    job = _job(
        compile_here(proto, tmp_path).library,
        model_file(proto),
        inputs=[f"x={tmp_path / 'x.npy'}"],
    )
    assert [run["dims"] for run in run_job_here(JOB, job)["runs"]] == [{"n": 5}]


def test_notices_another_model(tmp_path, model_file):
    events = []
    job = _job(
        compile_here(models.unary("Relu"), tmp_path).library, model_file(models.unary("Neg"))
    )
    found = run_job_here(JOB, job, events.append)
    assert not found["passed"] and "outside the error budget" in events[-1]["note"]


def test_keeps_golden_data_of_the_first_run(tmp_path, model_file):
    proto, golden = models.linear("n"), tmp_path / "golden"
    golden.mkdir()
    library = compile_here(proto, tmp_path).library
    run_job_here(JOB, _job(library, model_file(proto), golden=str(golden)))
    inputs, outputs = (np.load(golden / f"golden_{side}.npz") for side in ("inputs", "outputs"))
    assert inputs["x"].shape == (1, 64) and outputs["y"].shape == (1, 32)


def test_given_arrays_come_before_random_ones():
    manifest = {
        "inputs": [
            {"name": "a", "dtype": "float32", "shape": ["n"]},
            {"name": "b", "dtype": "float32", "shape": ["n"]},
        ]
    }
    given = {"b": np.ones(4, np.float32)}
    arrays, dims = complete_inputs(manifest, given, {"n": 1}, 0)
    assert dims == {"n": 4} and arrays["a"].shape == (4,) and arrays["b"] is given["b"]


def test_a_model_that_onnx_runtime_refuses_is_a_model_error(model_file):
    with pytest.raises(ModelError, match="the reference, refuses") as info:
        open_session(str(model_file(models.unsupported())), 1)
    assert "--no-verify" in info.value.hint


def test_wrong_inputs_are_ours_to_refuse_not_onnx_runtimes(tmp_path, model_file):
    proto = models.linear()
    np.save(tmp_path / "x.npy", np.ones((5, 63), np.float32))
    job = _job(
        compile_here(proto, tmp_path).library,
        model_file(proto),
        inputs=[f"x={tmp_path / 'x.npy'}"],
    )
    with pytest.raises(InputError, match=r"\[5, 63\]"):
        run_job_here(JOB, job)
