from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.net import Net
from tilewright.compiler.importer.load import load
from tilewright.verification.reference import DoubleReference, NoReference


def _of(proto, model_file):
    return DoubleReference(load(model_file(proto)))


def test_a_network_has_53_bits(model_file):
    proto = models.mlp_block()
    x = models.weight("x", (6, 32))
    found = _of(proto, model_file)({"x": x})
    output = found[proto.graph.output[0].name]
    assert output.dtype == np.float64
    assert np.abs(output - output.astype(np.float32)).max() > 0, "not rounded to float32 anywhere"


def test_large_weights_beside_the_graph_are_widened_too(model_file):
    proto = models.linear(inner=64)
    x = models.weight("x", (2, 64))
    found = _of(proto, model_file)({"x": x})
    constants = load(model_file(proto)).constants()
    w, b = (next(a for a in constants.values() if a.ndim == rank) for rank in (2, 1))
    wanted = np.maximum(x.astype(np.float64) @ w.astype(np.float64) + b, 0)
    np.testing.assert_allclose(found["y"], wanted, rtol=1e-14)


HALF = TensorProto.FLOAT16
NODES = [
    helper.make_node("Constant", [], ["y"], value_float=0.1),
    helper.make_node("Constant", [], ["y"], value_floats=[0.1]),
    helper.make_node("Cast", ["x"], ["y"], to=HALF),
    helper.make_node("EyeLike", ["x"], ["y"], dtype=HALF),
    helper.make_node(
        "ConstantOfShape", ["s"], ["y"], value=helper.make_tensor("v", HALF, [1], [0.1])
    ),
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.op_type)
def test_every_way_to_name_a_type_is_widened(node, model_file):
    kind = TensorProto.FLOAT if node.op_type == "Constant" else HALF
    proto = models.model(
        [node],
        [models.value("x", (2, 2)), models.value("s", (1,), models.INT64)],
        [models.value("y", None, kind)],
    )
    found = _of(proto, model_file)({"x": np.full((2, 2), 1 / 3, np.float32), "s": np.array([3])})
    assert found["y"].dtype == np.float64


def test_branches_are_widened(model_file):
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value_float=0.1)], "b", [], [models.value("c", ())]
    )
    node = helper.make_node("If", ["p"], ["y"], then_branch=branch, else_branch=branch)
    inputs = [models.value("p", (), TensorProto.BOOL)]
    proto = models.model([node], inputs, [models.value("y", ())])
    assert _of(proto, model_file)({"p": np.array(True)})["y"].dtype == np.float64


def test_what_is_moved_by_a_rounding_keeps_its_size(model_file):
    """A scale of 2 that is moved down makes 15 of 8, and what has 16 does not fit."""
    net = Net(x=(1, 3, 8, 8))
    scales = net.Constant(value_floats=[1.0, 1.0, 2.0, 2.0])
    larger = net.Resize("x", "", scales, mode="nearest")
    counted = net.Range(net.Constant(value_float=0.0), net.Constant(value_float=16.0), 1.0)
    proto = net.model(net.Add(larger, counted))
    x = models.weight("x", (1, 3, 8, 8))
    evaluate, name = _of(proto, model_file), proto.graph.output[0].name
    exact, moved = (evaluate({"x": x}, unit)[name] for unit in (0.0, 1e-6))
    assert exact.shape == moved.shape == (1, 3, 16, 16)
    assert 0 < np.abs(moved - exact).max() < 1e-4


def test_constants_are_not_moved(model_file):
    """Of an exponent that is not quite 2, the powers of negative numbers are NaN."""
    net = Net(x=(4, 8))
    two = net.Identity(net.Constant(value_float=2.0))
    proto = net.model(net.Sqrt(net.Pow("x", two)))
    x = models.weight("x", (4, 8))
    evaluate, name = _of(proto, model_file), proto.graph.output[0].name
    exact, moved = (evaluate({"x": x}, unit)[name] for unit in (0.0, 1e-6))
    assert (x < 0).any() and 0 < np.abs(moved - exact).max() < 1e-4


@pytest.mark.parametrize("terms", [64, 1024])
def test_sums_are_moved_by_as_much_as_rounding_every_partial_sum_moves_them(terms, model_file):
    x, w = models.weight("x", (64, terms)), models.weight("w", (terms, 64))
    sums = np.zeros((64, 64), np.float32)
    for k in range(terms):
        sums += x[:, k : k + 1] * w[k]
    net = Net(x=(64, terms))
    proto = net.model(net.MatMul("x", w))
    evaluate, name = _of(proto, model_file), proto.graph.output[0].name
    unit = 2.0**-24
    truth, moved = (evaluate({"x": x}, by)[name] for by in (0.0, unit))
    error, estimate = (np.sqrt(np.square(found - truth).mean()) for found in (sums, moved))
    assert estimate / 2 < error < 2 * estimate
    assert estimate > 3 * unit * np.sqrt(np.square(truth).mean())


def test_a_recurrent_layer_is_moved_by_the_sums_of_one_step(model_file):
    """The steps hand on what each of them is off by."""
    moves = []
    for steps in (1, 64):
        net = Net(x=(steps, 1, 16))
        w, r = models.weight("w", (1, 64, 16)), models.weight("r", (1, 64, 16))
        proto = net.model(net.LSTM("x", w, r, hidden_size=16))
        x = np.tile(models.weight("x", (1, 1, 16)), (steps, 1, 1))
        evaluate, name = _of(proto, model_file), proto.graph.output[0].name
        exact, moved = (evaluate({"x": x}, by)[name][0] for by in (0.0, 1e-6))
        moves.append(np.abs(moved - exact).max())
    assert 0 < moves[1] < 3 * moves[0]


def test_says_which_operator_has_no_reference(model_file):
    node = helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft")
    opsets = [helper.make_opsetid("com.microsoft", 1)]
    value = models.value("x", (1, 2))
    proto = models.model([node], [value], [models.value("y", (1, 2))], opsets=opsets)
    with pytest.raises(NoReference, match="FusedConv"):
        _of(proto, model_file)


def test_an_input_that_an_operator_refuses_is_no_reference(model_file):
    reference = _of(models.binary("MatMul", (2, 2)), model_file)
    with pytest.raises(NoReference):
        reference({"a": np.ones((2, 3), np.float32), "b": np.ones((2, 3), np.float32)})
