from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import models
from tests.compiling import compile_here
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.verification.budget import (
    SAFETY,
    output_budgets,
    reduction_length,
    unit_roundoff,
)
from tilewright.verification.check_job import check_job

UNIT = 2.0**-24


def _budgets(proto, model_file, **dims):
    model = load(model_file(proto))
    shapes.apply(model, {}, {})
    normalise(model)
    return output_budgets(model, dims)


def _check(library, model, **job):
    job = {"shapes": {}, "dims": {}, "seed": 0, "threads": 1, "golden": None, **job}
    job = {"library": str(library), "model": str(model), **job}
    return check_job(json.loads(json.dumps(job)), lambda *_a, **_k: None)


def _with_fault(proto, name: str, change) -> object:
    copy = type(proto).FromString(proto.SerializeToString())
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            change(array)
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return copy


NETS = {"conv_net": models.conv_net, "mlp_block": models.mlp_block, "linear": models.linear}


@pytest.mark.parametrize("net", NETS)
def test_an_honest_compilation_passes_with_room(net, tmp_path, model_file):
    proto = NETS[net]()
    found = _check(compile_here(proto, tmp_path).library, model_file(proto))
    assert found["passed"]
    assert all(row["used"] < 0.5 for row in found["outputs"]), found


def _scale_all(array):
    array *= np.float32(1 + 1e-3)


def _scale_one(array):
    flat = array.reshape(-1)
    flat[np.abs(flat).argmax()] *= np.float32(1.1)


@pytest.mark.parametrize("change", [_scale_all, _scale_one])
@pytest.mark.parametrize(
    "net, weight",
    [
        *[("conv_net", "w0"), ("conv_net", "w1"), ("conv_net", "gamma1"), ("conv_net", "v")],
        *[("mlp_block", "w1"), ("mlp_block", "w2"), ("mlp_block", "scale"), ("linear", "w")],
    ],
)
def test_the_budget_bites(net, weight, change, tmp_path, model_file):
    """A small fault in one weight in the middle of a network is caught at its output."""
    proto = NETS[net]()
    library = compile_here(_with_fault(proto, weight, change), tmp_path).library
    found = _check(library, model_file(proto))
    assert not found["passed"], found["outputs"]


def test_grows_with_the_root_of_what_is_summed(model_file):
    small, large = (_budgets(models.linear(inner=k), model_file)["y"].relative for k in (62, 254))
    # K of the product, and one each for the bias and the ReLU.
    assert small == pytest.approx(SAFETY * UNIT * np.sqrt(64))
    assert large == pytest.approx(2 * small)


def test_takes_the_longest_path(model_file):
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["long"], keepdims=1),
        helper.make_node("Relu", ["x"], ["short"]),
        helper.make_node("Add", ["long", "short"], ["y"]),
    ]
    proto = models.model(
        nodes,
        [models.value("x", (4, 99))],
        [models.value("y", (4, 99)), models.value("short", (4, 99))],
        {"axes": np.array([1])},
    )
    found = _budgets(proto, model_file)
    assert found["y"].relative == pytest.approx(SAFETY * UNIT * np.sqrt(100))
    assert found["short"].relative == pytest.approx(SAFETY * UNIT)


def test_what_was_computed_at_compile_time_counts_too(model_file):
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["ab"]),
        helper.make_node("Add", ["x", "ab"], ["y"]),
    ]
    weights = {"a": np.ones((4, 99), np.float32), "b": np.ones((99, 4), np.float32)}
    proto = models.model(nodes, [models.value("x", (4, 4))], [models.value("y", (4, 4))], weights)
    assert _budgets(proto, model_file)["y"].relative == pytest.approx(SAFETY * UNIT * np.sqrt(100))


def test_open_dimensions_count_at_the_size_tried(model_file):
    proto = models.model(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        [models.value("x", (1, "n"))],
        [models.value("y", ())],
    )
    assert _budgets(proto, model_file, n=64)["y"].relative == pytest.approx(SAFETY * UNIT * 8)


def test_the_coarsest_type_counts(model_file):
    assert _budgets(models.unary(), model_file)["y"].relative == SAFETY * UNIT
    half = _budgets(models.unary(kind=TensorProto.FLOAT16), model_file)["y"]
    # Cast, computed in float32, and cast back.
    assert half.relative == pytest.approx(SAFETY * 2.0**-11 * np.sqrt(3))
    double = _budgets(models.unary(kind=TensorProto.DOUBLE), model_file)["y"]
    assert double.relative == SAFETY * 2.0**-53


def test_floats_out_of_integers_have_a_budget(model_file):
    proto = models.model(
        [helper.make_node("ConstantOfShape", ["x"], ["y"])],
        [models.value("x", (2,), models.INT64)],
        [models.value("y", ("a", "b"))],
    )
    assert _budgets(proto, model_file)["y"].relative == SAFETY * UNIT


def test_a_sigmoid_has_a_floor_also_behind_a_reshape(model_file):
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Flatten", ["s"], ["y"]),
        helper.make_node("Relu", ["s"], ["z"]),
    ]
    proto = models.model(
        nodes, [models.value("x", (2, 3))], [models.value(n, (2, 3)) for n in ("s", "y", "z")]
    )
    found = _budgets(proto, model_file)
    assert (found["s"].floor, found["y"].floor, found["z"].floor) == (1.0, 1.0, 0.0)


def test_what_branches_compute_counts(model_file):
    def branch(name, *nodes):
        return helper.make_graph(list(nodes), name, [], [models.value(name, (2, 5))])

    sums = helper.make_node("MatMul", ["x", "w"], ["s"])
    then = branch("yes", sums, helper.make_node("Sigmoid", ["s"], ["yes"]))
    other = branch("no", helper.make_node("Neg", ["x"], ["no"]))
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    proto = models.model(
        [node],
        [models.value("c", (), 9), models.value("x", (2, 5))],
        [models.value("y", (2, 5))],
        {"w": np.ones((5, 5), np.float32)},
    )
    budget = _budgets(proto, model_file)["y"]
    assert budget.relative == pytest.approx(SAFETY * 2.0**-24 * np.sqrt(6)) and budget.floor == 1


LENGTHS = [
    ("Conv", {}, {"x": [1, 8, 9, 9], "w": [16, 8, 3, 3]}, 72),
    ("Conv", {"group": 8}, {"x": [1, 8, 9, 9], "w": [8, 1, 3, 3]}, 9),
    ("ConvTranspose", {}, {"x": [1, 8, 9, 9], "w": [8, 16, 3, 3]}, 72),
    ("MatMul", {}, {"x": [2, 7, 50], "w": [50, 3]}, 50),
    ("Gemm", {}, {"x": [7, 50], "w": [50, 3]}, 50),
    ("Gemm", {"transA": 1}, {"x": [50, 7], "w": [50, 3]}, 50),
    ("GlobalAveragePool", {}, {"x": [1, 8, 9, 9]}, 81),
    ("LayerNormalization", {"axis": -2}, {"x": [2, 3, 4]}, 12),
    ("Softmax", {}, {"x": [2, 3, 4]}, 4),
    ("ReduceMean", {}, {"x": [2, 3, 4], "y": [2, 1, 1]}, 12),
    ("AveragePool", {"kernel_shape": [3, 2]}, {"x": [1, 1, 9, 9]}, 6),
    ("Resize", {"mode": "linear"}, {"x": [1, 3, 8, 9]}, 81),
    ("Resize", {}, {"x": [1, 3, 8, 9]}, 1),
    ("RoiAlign", {}, {"x": [1, 3, 8, 9]}, 81),
    ("GridSample", {"mode": "nearest"}, {"x": [1, 3, 8, 9]}, 1),
    ("DFT", {}, {"x": [1, 50, 1]}, 50),
    ("STFT", {}, {"y": [1, 7, 26, 2]}, 52),
    ("LSTM", {"hidden_size": 5}, {"x": [10, 1, 7]}, 120),
    ("Relu", {}, {"x": [2, 3]}, 1),
    ("MatMul", {}, {}, 1),
]


@pytest.mark.parametrize("op, attrs, known, terms", LENGTHS)
def test_reduction_length(op, attrs, known, terms):
    inputs = ["x", "w"] if "w" in known else ["x"]
    assert reduction_length(helper.make_node(op, inputs, ["y"], **attrs), known) == terms


def test_unit_roundoff():
    assert unit_roundoff(np.dtype("float32")) == 2.0**-24
    assert unit_roundoff(np.dtype("int64")) == 0


def test_a_loop_errs_as_much_as_its_steps_together():
    body = helper.make_graph(
        [helper.make_node("MatMul", ["s", "w"], ["t"])],
        "body",
        [
            models.value("i", (), TensorProto.INT64),
            models.value("c", (), TensorProto.BOOL),
            models.value("s", (2, 32)),
        ],
        [models.value("c", (), TensorProto.BOOL), models.value("t", (2, 32))],
    )
    loop = helper.make_node("Loop", ["m", "", "x"], ["y"], body=body)
    assert reduction_length(loop, {"x": [2, 32]}) == 20 * 32
    scan = helper.make_node("Scan", ["x", "z"], ["y"], body=body, num_scan_inputs=1)
    assert reduction_length(scan, {"x": [2, 32], "z": [50, 3]}) == 50 * 32
