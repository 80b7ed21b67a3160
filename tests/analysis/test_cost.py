from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.net import Net
from tilewright.analysis.cost import PLUMBING, Cost, is_operator, node_cost, silu_halves, sizes_of

SHAPES = {
    "x": ("n", 8),
    "z": ("n", 8),
    "w": (8, 16),
    "y": ("n", 16),
    "i": (2, 3, 8, 8),
    "k": (4, 3, 3, 3),
    "o": (2, 4, 6, 6),
    "m": (2, 3, 1, 1),
}
DIMS = {"n": 5}


def _cost(op: str, inputs: list[str], output: str, dtypes=None, **attrs) -> Cost:
    return node_cost(helper.make_node(op, inputs, [output], **attrs), SHAPES, dtypes or {}, DIMS)


def test_a_product_counts_two_operations_per_term():
    assert _cost("MatMul", ["x", "w"], "y") == Cost(2 * 8 * 5 * 16, 4 * (5 * 8 + 8 * 16 + 5 * 16))
    assert _cost("Conv", ["i", "k"], "o").flops == 2 * 27 * 2 * 4 * 36


def test_a_transposed_convolution_counts_what_each_element_is_multiplied_with():
    net = Net(x=(1, 2, 5, 5))
    y = net.ConvTranspose("x", net.weight(2, 3, 4, 4), strides=[2, 2])
    assert _of(net.model(y)) == 2 * (2 * 25) * (3 * 16)


@pytest.mark.parametrize("cell, gates", [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_a_recurrent_cell_counts_each_gate_of_each_step(cell, gates):
    net = Net(x=(7, 2, 5))
    weights = net.weight(1, gates * 3, 5), net.weight(1, gates * 3, 3)
    assert _of(net.model(net.add(cell, "x", *weights, hidden_size=3))) == 2 * 14 * gates * 3 * 8


@pytest.mark.parametrize(
    "equation, shapes, products",
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], 24),
        ("bhqd, bhkd -> bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)], 2 * 3 * 4 * 6 * 5),
        ("...ij,jk->...ik", [(5, 2, 3), (3, 4)], 5 * 2 * 3 * 4),
    ],
)
def test_an_einsum_counts_one_product_per_value_of_its_indices(equation, shapes, products):
    net = Net(a=shapes[0], b=shapes[1])
    assert _of(net.model(net.Einsum("a", "b", equation=equation))) == 2 * products


@pytest.mark.parametrize("flat", [True, False])
def test_attention_counts_scores_and_their_product_with_the_values(flat):
    shape = (2, 4, 3 * 5) if flat else (2, 3, 4, 5)
    net = Net(opset=23, q=shape, k=shape, v=shape)
    heads = {"q_num_heads": 3, "kv_num_heads": 3} if flat else {}
    assert _of(net.model(net.Attention("q", "k", "v", **heads))) == 2 * 2 * (2 * 3 * 4 * 4 * 5)


def _of(proto) -> float:
    """Operations of the only node of a model."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    values = [*inferred.input, *inferred.output]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    (node,) = proto.graph.node
    return node_cost(node, shapes, {}, {}).flops


def test_what_is_elementwise_counts_one_operation_per_element():
    assert _cost("Relu", ["x"], "z") == Cost(40, 2 * 4 * 40)
    assert _cost("Mul", ["x", "x"], "z") == Cost(40, 2 * 4 * 40), "one tensor is read once"


def test_a_pool_counts_what_it_sums():
    assert _cost("GlobalAveragePool", ["i"], "m").flops == 64 * 6


def test_bytes_follow_the_type():
    kinds = {"x": np.dtype(np.float16), "z": np.dtype(np.int8)}
    assert _cost("Cos", ["x"], "z", kinds).bytes == (2 + 1) * 40


@pytest.mark.parametrize("op", sorted(PLUMBING))
def test_plumbing_is_free(op):
    assert _cost(op, ["x"], "x") == Cost() and not is_operator(helper.make_node(op, ["x"], ["y"]))


def test_inputs_left_out_move_nothing():
    assert _cost("Clip", ["x", "", "w"], "z").bytes == _cost("Clip", ["x", "w"], "z").bytes


def test_costs_add_up_and_have_an_intensity():
    total = Cost(10, 4) + Cost(2, 2)
    assert total == Cost(12, 6) and total.intensity == 2 and Cost(3).intensity == 0


def test_sizes_nobody_knows_are_one():
    assert sizes_of(("n", "other", None, 3), DIMS) == [5, 1, 1, 3]
    assert sizes_of(None, DIMS) == []


def test_the_sigmoid_of_a_silu_is_half_an_operator():
    net = Net(x=(2, 3), z=(2, 3))
    one, two, three, four = (net.Sigmoid("x") for _ in range(4))
    silu, swapped = net.Mul("x", one), net.Mul(two, "x")
    gated = net.Mul("z", three)
    proto = net.model(silu, swapped, gated, net.Mul("x", four), four)
    assert silu_halves(proto.graph) == {one, two}
