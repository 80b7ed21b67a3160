from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.command_line import run_job_here
from tests.compiling import compile_here
from tilewright.analysis import latency


@pytest.fixture
def job(tmp_path, model_file):
    proto = models.linear("n")
    return {
        "library": str(compile_here(proto, tmp_path).library),
        "model": str(model_file(proto)),
        "threads": 1,
        "inputs": [],
        "seed": 0,
        "seconds": 0.05,
    }


def test_the_ratio_is_that_of_the_medians_with_an_interval_around_it():
    rng = np.random.default_rng(0)
    a, b = (list(scale * rng.uniform(0.9, 1.1, 200)) for scale in (3, 1))
    found = latency.ratio_of_medians(a, b)
    assert found["low"] <= found["median"] <= found["high"]
    assert found["median"] == pytest.approx(np.median(a) / np.median(b))
    assert found["low"] > 2.8 and found["high"] < 3.2
    assert latency.ratio_of_medians(a, b) == found


@pytest.mark.parametrize("engine", ["tilewright", "onnxruntime"])
def test_a_start_has_load_first_call_and_peak(engine, job):
    found = run_job_here("tilewright.analysis.latency:start_job", {**job, "engine": engine})
    assert 0 < found["load"] < 10 and 0 < found["first_call"] < 10
    assert 10e6 < found["peak_bytes"] < 64e9


@pytest.mark.parametrize("threads", [1, 2])
def test_the_steady_state_takes_turns(threads, job):
    found = run_job_here("tilewright.analysis.latency:steady_job", {**job, "threads": threads})
    engines = found["engines"]
    assert set(engines) == {"tilewright", "onnxruntime"}
    for engine in engines.values():
        assert engine["p10"] <= engine["median"] <= engine["p90"]
        assert engine["calls"] >= latency.MIN_CALLS
    calls = [engine["calls"] for engine in engines.values()]
    assert threads > 1 or calls[0] == calls[1]


def test_without_a_model_there_is_no_ratio(job):
    found = run_job_here("tilewright.analysis.latency:steady_job", {**job, "model": None})
    assert list(found["engines"]) == ["tilewright"] and "ratio" not in found


def test_given_inputs_fix_the_sizes(job, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((33, 64), np.float32))
    inputs = latency.job_inputs({**job, "inputs": [f"x={tmp_path / 'x.npy'}"]})
    assert inputs["x"].shape == (33, 64)
