from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.command_line import run_job_here
from tests.compiling import compile_here
from tests.net import Net
from tilewright.errors import ModelError

JOB = "tilewright.verification.check_job:check_job"


def _job(library, model, **fields):
    job = {"shapes": {}, "dims": {}, "seed": 0, "threads": 1, "golden": None}
    return {**job, "library": str(library), "model": str(model), **fields}


def test_tries_two_sizes_of_an_open_dimension(tmp_path, model_file):
    proto = models.linear("n")
    events = []
    found = run_job_here(
        JOB, _job(compile_here(proto, tmp_path).library, model_file(proto)), events.append
    )
    assert [example["dims"] for example in found["examples"]] == [{"n": 1}, {"n": 9}]
    assert found["passed"] and "of the tolerance used" in events[-1]["note"]
    assert found["reference"].startswith("ONNX Runtime ") and found["subject"] == "model.onnx"


def test_notices_another_model(tmp_path, model_file):
    events = []
    job = _job(
        compile_here(models.unary("Relu"), tmp_path).library, model_file(models.unary("Neg"))
    )
    found = run_job_here(JOB, job, events.append)
    assert not found["passed"] and "outside the tolerance" in events[-1]["note"]
    assert found["examples"] == [] and found["failure"]["dims"] == {}


def test_the_model_in_double_precision_decides_where_onnx_runtime_errs(tmp_path, model_file):
    """Its DFT of a length that is not a power of 2 errs more than a sum of so many terms."""
    net = Net(opset=17, x=(4, 400, 1))
    proto = net.model(net.DFT("x", axis=1, onesided=1))
    found = run_job_here(JOB, _job(compile_here(proto, tmp_path).library, model_file(proto)))
    (verdict,) = found["examples"][0]["verdicts"]
    assert found["passed"] and verdict["truth"] is not None
    assert verdict["error"] < verdict["theirs"] / 4


def test_keeps_golden_data_of_the_first_run(tmp_path, model_file):
    proto, golden = models.linear("n"), tmp_path / "golden"
    golden.mkdir()
    library = compile_here(proto, tmp_path).library
    run_job_here(JOB, _job(library, model_file(proto), golden=str(golden)))
    inputs, outputs = (np.load(golden / f"golden_{side}.npz") for side in ("inputs", "outputs"))
    assert inputs["x"].shape == (1, 64) and outputs["y"].shape == (1, 32)


def test_sizes_that_are_refused_give_way_to_round_ones(tmp_path, model_file):
    net = Net(x=("n",))
    proto = net.model(net.Reshape("x", net.ints(4, -1)))
    library = compile_here(proto, tmp_path).library
    found = run_job_here(JOB, _job(library, model_file(proto)))
    assert [example["dims"] for example in found["examples"]] == [{"n": 32}, {"n": 64}]


def test_nothing_to_compare_is_an_error(tmp_path, model_file):
    net = Net(x=("n",))
    proto = net.model(net.Reshape("x", net.ints(97, -1)))
    library = compile_here(proto, tmp_path).library
    with pytest.raises(ModelError, match=r"every input was refused, first n=1") as info:
        run_job_here(JOB, _job(library, model_file(proto)))
    assert "--dim" in info.value.hint
