from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests import models
from tests.net import Net, answers_each

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def _given(name: str, *each: list[int]) -> list[dict[str, np.ndarray]]:
    return [{"x": X, name: np.array(values, np.int64)} for values in each]


def _model(operator: str, name: str, count: int, x=X.shape, **attrs):
    net = Net(opset=21, x=x)
    net.input(name, (count,))
    return net.model(net.add(operator, "x", name, **attrs))


@pytest.mark.parametrize("x", [X.shape, ("a", "b", "c")])
def test_reshape_to_what_is_computed(x, tmp_path):
    proto = _model("Reshape", "shape", 2, x)
    answers_each(proto, tmp_path, *_given("shape", [4, 6], [24, 1], [-1, 8], [0, -1], [12, -1]))


def test_reshape_to_more_axes_and_to_fewer(tmp_path):
    more, fewer = (tmp_path / name for name in ("more", "fewer"))
    more.mkdir(), fewer.mkdir()
    answers_each(_model("Reshape", "shape", 4), more, *_given("shape", [0, 0, 2, -1]))
    answers_each(_model("Reshape", "shape", 1), fewer, *_given("shape", [24], [-1]))


def test_a_size_of_0_that_is_meant(tmp_path):
    net = Net(opset=21, x=(0, 3, 4))
    net.input("shape", (3,))
    proto = net.model(net.Reshape("x", "shape", allowzero=1))
    empty = np.zeros((0, 3, 4), np.float32)
    answers_each(proto, tmp_path, {"x": empty, "shape": np.array([3, 4, 0])})


def test_expand_to_what_is_computed(tmp_path):
    net = Net(opset=21, x=(3, 1))
    net.input("shape", (3,))
    proto = net.model(net.Expand("x", "shape"))
    x = np.float32([[1], [2], [3]])
    each = ([2, 1, 6], [1, 3, 1], [2, 3, 4])
    answers_each(proto, tmp_path, *({"x": x, "shape": np.array(shape)} for shape in each))


@pytest.mark.parametrize("shape", [[1], [1, 1], [2, 1, 1], [3, 1], [4, 3]])
def test_expand_what_has_an_open_size(shape, tmp_path):
    net = Net(opset=21, x=("n", 1))
    proto = net.model(net.Expand("x", net.ints(*shape)))
    sizes = (1, shape[-2]) if len(shape) > 1 and shape[-2] > 1 else (1, 5)
    answers_each(proto, tmp_path, *({"x": np.ones((n, 1), np.float32)} for n in sizes))


def test_expand_to_fewer_axes_than_there_are(tmp_path):
    answers_each(_model("Expand", "shape", 1), tmp_path, *_given("shape", [4], [1]))


@pytest.mark.parametrize("value", [None, np.int64([7]), np.array([True])])
def test_one_value_in_a_shape_that_is_computed(value, tmp_path):
    net = Net(opset=21)
    net.input("shape", (2,))
    attrs = {} if value is None else {"value": numpy_helper.from_array(value)}
    proto = net.model(net.ConstantOfShape("shape", **attrs))
    answers_each(proto, tmp_path, *({"shape": np.array(s)} for s in ([2, 3], [1, 5])))


def test_new_axes_that_are_computed(tmp_path):
    proto = _model("Unsqueeze", "axes", 2)
    answers_each(proto, tmp_path, *_given("axes", [0, 1], [4, 0], [-1, 2], [3, 1]))


def test_new_axes_of_a_number(tmp_path):
    net = Net(opset=21, x=())
    net.input("axes", (1,))
    proto = net.model(net.Unsqueeze("x", "axes"))
    answers_each(proto, tmp_path, {"x": np.float32(3), "axes": np.array([0])})


def test_a_computed_size_meets_operators_after_it(tmp_path):
    """TVM's fusion puts them before the size, which `order_sizes` mends."""
    net = Net(opset=21, x=("n",))
    ones = net.ConstantOfShape(net.Cast(net.ReduceMax("x"), to=models.INT64))
    proto = net.model(net.Exp(net.Sub(net.Mul(ones, 3.0), 1.0)), net.Neg(ones))
    each = ([3.0, 1.0], [5.0], [1.0, 2.0, 2.0])
    answers_each(proto, tmp_path, *({"x": np.float32(x)} for x in each))


@pytest.mark.parametrize(
    "attrs",
    [{"value_int": 3}, {"value_ints": [1, 2]}, {"value_float": 0.5}, {"value_floats": [1.0, 2.0]}],
)
def test_constants_in_a_branch(attrs, tmp_path):
    branches = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Constant", [], [name], **attrs)
        kind = models.INT64 if "int" in next(iter(attrs)) else models.FLOAT
        shape = [len(v)] if isinstance(v := next(iter(attrs.values())), list) else []
        out = models.value(name, shape, kind)
        branches[name] = helper.make_graph([node], name, [], [out])
    net = Net(opset=21)
    net.input("c", (), models.onnx.TensorProto.BOOL)
    answers_each(net.model(net.If("c", **branches)), tmp_path, {"c": np.array(True)})


def test_nothing_has_no_element(tmp_path):
    net = Net(opset=18, x=(2,))
    proto = net.model(net.OptionalHasElement(), net.Neg("x"))
    answers_each(proto, tmp_path, {"x": np.zeros(2, np.float32)})


@pytest.mark.parametrize("to", [[-1], [1], [1, 1]])
def test_one_open_size_as_part_of_a_shape(to, tmp_path):
    """As PyTorch's exporter writes `view(batch * 4, 3)`: a number, reshaped to a vector."""
    net = Net(opset=21, x=("batch", 4, 3))
    batch = net.Squeeze(net.Shape("x", start=0, end=1))
    rows = net.Reshape(net.Mul(batch, net.const(4, np.int64)), net.ints(*to))
    if len(to) > 1:
        rows = net.Reshape(rows, net.ints(-1))
    y = net.Reshape("x", net.Concat(rows, net.ints(3), axis=0))
    each = ({"x": np.ones((size, 4, 3), np.float32)} for size in (2, 5))
    answers_each(net.model(y), tmp_path, *each)
