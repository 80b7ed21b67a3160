from __future__ import annotations

import json

import numpy as np

from tests import models
from tests.command_line import run_job_here
from tests.compiling import compile_here
from tilewright.analysis.run_job import _summary

JOB = "tilewright.analysis.run_job:run_job"


def test_runs_once_and_says_how_long_it_took(linear_library):
    found = run_job_here(
        JOB,
        {
            "library": str(linear_library),
            "threads": 1,
            "inputs": [],
            "seed": 0,
            "dims": {},
            "output": None,
        },
    )
    assert found["threads"] == 1 and 0 < found["seconds"] < 10
    assert found["outputs"][0]["shape"] == [2, 32]


def test_a_summary_leaves_out_what_is_not_finite():
    row = _summary("y", np.float32([1, np.nan, 3, np.inf]))
    assert (row["min"], row["mean"], row["max"]) == (1.0, 2.0, 3.0)
    for array in (np.float32([np.nan]), np.zeros((0, 3)), np.array(True), np.array(7)):
        json.dumps(_summary("y", array), allow_nan=False)


def test_a_model_with_boolean_and_empty_outputs(tmp_path):
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("IsNaN", ["x"], ["n"]),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    proto = models.model(
        nodes,
        [models.value("x", (0, 3))],
        [models.value("n", (0, 3), TensorProto.BOOL), models.value("y", (0, 3))],
    )
    job = {"threads": 1, "inputs": [], "seed": 0, "dims": {}, "output": str(tmp_path / "o.npz")}
    library = compile_here(proto, tmp_path).library
    found = run_job_here(JOB, {**job, "library": str(library)})
    assert [o["dtype"] for o in found["outputs"]] == ["bool", "float32"]
    assert np.load(tmp_path / "o.npz")["n"].shape == (0, 3)
