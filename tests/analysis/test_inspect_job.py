from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from tests import models
from tests.command_line import run_job_here
from tests.net import CONTRIB, Net

JOB = "tilewright.analysis.inspect_job:inspect_job"


def _facts(path, **fields):
    return run_job_here(JOB, {"path": str(path), "shapes": {}, "dims": {}, **fields})


def test_counts_nodes_weights_and_operators(model_file):
    facts = _facts(model_file(models.linear()))
    assert (facts["nodes"], facts["normalised_nodes"], facts["opset"]) == (3, 3, 17)
    assert facts["parameters"] == 64 * 32 + 32 and facts["weight_bytes"] == 4 * facts["parameters"]
    assert facts["outputs"] == [{"name": "y", "dtype": "float32", "shape": [2, 32]}]


def test_counts_weights_in_constant_nodes(model_file):
    w = np.ones((64, 32), np.float32)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(w)),
        helper.make_node("MatMul", ["x", "c"], ["y"]),
    ]
    proto = models.model(nodes, [models.value("x", (2, 64))], [models.value("y", (2, 32))])
    facts = _facts(model_file(proto))
    assert facts["parameters"] == 64 * 32 and facts["normalised_nodes"] == 1


def test_open_dimensions_and_sizes(model_file):
    path = model_file(models.linear("n"))
    assert list(_facts(path)["dims"]) == ["n"]
    assert _facts(path, dims={"n": [1, 8]})["dims"] == {"n": [1, 8]}
    assert _facts(path, shapes={"x": [3, 64]})["inputs"][0]["shape"] == [3, 64]


def test_what_is_refused_is_no_error(model_file):
    assert _facts(model_file(models.unsupported()))["normalised_nodes"] == 4
    net = Net(opset=23, **dict.fromkeys("qkv", (2, 5, 24)), old=(2, 4, 3, 6))
    given = ("q", "k", "v", "", "", "", "old", "old")
    y, *_ = net.add("MultiHeadAttention", *given, outputs=3, domain=CONTRIB, num_heads=4)
    assert _facts(model_file(net.model(y), "attention.onnx"))["normalised_nodes"] == 1
