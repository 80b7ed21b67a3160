from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests import models
from tests.command_line import run_job_here
from tests.compiling import compile_here
from tilewright.compiler.artifact import save_arrays

JOBS = "tilewright.verification.localize_job"


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A model with an open dimension, a library of it, and one of another that ends otherwise."""
    folder = tmp_path_factory.mktemp("linear")
    proto = models.linear("n")
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    right = compile_here(proto, folder).library
    proto.graph.node[-1].op_type = "Identity"
    return folder / "m.onnx", right, compile_here(proto, folder).library


def _job(tmp_path, model, library, kind="ones"):
    save_arrays(tmp_path / "given.npz", {"x": np.ones((3, 64), np.float32)})
    verdicts = [{"name": "y", "allowed": 1e-6}]
    failure = {"dims": {"n": 3}, "kind": kind, "seed": 1, "verdicts": verdicts}
    return {
        "library": str(library),
        "model": str(model),
        "shapes": {},
        "dims": {},
        "threads": 1,
        "failure": failure,
        "inputs": str(tmp_path / "given.npz"),
        "folder": str(tmp_path),
    }


@pytest.mark.parametrize("kind", ["ones", "given"])
def test_the_tensor_is_found_and_an_excerpt_written(linear, tmp_path, kind):
    model, right, wrong = linear
    found = run_job_here(f"{JOBS}:divergence_job", _job(tmp_path, model, wrong, kind))
    assert found["no_truth"] is None and found["wrong"] == ["y"] and not found["normalise"]
    tensor = found["divergence"]
    assert (tensor["tensor"], tensor["reads"], tensor["rule"]) == ("y", ["x"], "linear")
    with np.load(tmp_path / "inputs.npz") as inputs:
        # Values that tell more than ones do, where nobody gave any.
        assert (np.ptp(inputs["x"]) > 0) == (kind == "ones")
    piece = found["excerpts"][0]
    assert len(onnx.load(f"{piece['folder']}/minimal.onnx").graph.node) == piece["nodes"]
    # And the two libraries are told apart on that example.
    for library, answer in ((wrong, ["y"]), (right, [])):
        job = {"library": str(library), "folder": str(tmp_path), "allowed": found["allowed"]}
        judged = run_job_here(f"{JOBS}:judge_job", {**job, "threads": 1})
        assert judged["wrong"] == answer


def test_a_failure_that_is_not_there_is_said_so(linear, tmp_path):
    model, right, _ = linear
    found = run_job_here(f"{JOBS}:divergence_job", _job(tmp_path, model, right))
    assert found == {"no_truth": "the failure is gone when the model runs again"}
