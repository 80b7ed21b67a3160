from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import models
from tests.compiling import compile_here
from tests.examples import examples
from tests.net import Net, answers_each
from tilewright.compiler.importer.convert.reduction import OPERATORS
from tilewright.errors import UnsupportedModel

X = np.random.default_rng(0).uniform(0.1, 2.0, (2, 3, 4)).astype(np.float32)


def _model(operator: str, axes: int | str, x=("a", "b", "c"), kind=models.FLOAT, **attrs):
    net = Net(opset=18)
    net.input("x", x, kind)
    net.input("axes", (axes,))
    return net.model(net.add(operator, "x", "axes", **attrs))


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("operator", OPERATORS)
def test_axes_that_are_computed(operator, keepdims, tmp_path):
    proto = _model(operator, 2, X.shape, keepdims=keepdims)
    pairs = ([0, 1], [2, 0], [-1, 1])
    answers_each(proto, tmp_path, *({"x": X, "axes": np.array(pair)} for pair in pairs))


def test_open_sizes(tmp_path):
    proto = _model("ReduceMean", 1, keepdims=0)
    sizes = ((2, 3, 4), (5, 1, 2))
    given = [(np.ones(s, np.float32) * np.arange(s[2]), axis) for s in sizes for axis in (0, 1, -1)]
    answers_each(proto, tmp_path, *({"x": np.float32(x), "axes": np.array([a])} for x, a in given))


def test_how_many_axes_may_be_open_too(tmp_path):
    proto = _model("ReduceSum", "k", X.shape)
    each = ([], [1], [0, 2], [0, 1, 2])
    given = ({"x": X, "axes": np.array(axes, np.int64)} for axes in each)
    answers_each(proto, tmp_path, *given, dims={"k": (0, 3)})


@pytest.mark.parametrize("noop", [0, 1])
def test_no_axes_are_all_or_none(noop, tmp_path):
    proto = _model("ReduceSum", 0, X.shape, noop_with_empty_axes=noop)
    answers_each(proto, tmp_path, {"x": X, "axes": np.zeros(0, np.int64)})


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin"])
def test_what_is_left_of_no_numbers(operator, tmp_path):
    proto = _model(operator, 1, (2, "n", 4))
    given = ({"x": X[:, :n], "axes": np.array([1])} for n in (0, 1, 3))
    answers_each(proto, tmp_path, *given, dims={"n": (0, 9)})


def test_infinite_numbers_have_a_logarithm_of_their_sum(tmp_path):
    x = np.float32([[-np.inf, -np.inf], [np.inf, 1], [1000, 1001]])
    proto = _model("ReduceLogSumExp", 1, (3, 2))
    answers_each(proto, tmp_path, {"x": x, "axes": np.array([1])})


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("axes", [None, [1]])
def test_the_extreme_of_truth_values(operator, axes, tmp_path):
    net = Net(opset=20)
    net.input("x", (3, 2), models.onnx.TensorProto.BOOL)
    proto = net.model(net.add(operator, "x", *([net.ints(*axes)] if axes else [])))
    answers_each(proto, tmp_path, {"x": np.array([[True, True], [True, False], [False, False]])})


@settings(max_examples=examples(4))
@given(data=st.data())
def test_any_axes_of_any_shape(data, tmp_path_factory):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    count = data.draw(st.integers(1, len(shape)))
    operator = data.draw(st.sampled_from(["ReduceSum", "ReduceMax"]))
    proto = _model(operator, count, shape, keepdims=data.draw(st.integers(0, 1)))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    orders = st.permutations(range(-len(shape), 0))
    each = [{"x": x, "axes": np.array(data.draw(orders)[:count])} for _ in range(3)]
    answers_each(proto, tmp_path_factory.mktemp("any"), *each)


def test_the_mean_of_nothing_is_refused(tmp_path):
    net = Net(opset=18, x=(2, 0, 4))
    proto = net.model(net.ReduceMean("x", net.ints(1)))
    with pytest.raises(UnsupportedModel, match="ReduceMean of a tensor without elements"):
        compile_here(proto, tmp_path, until="import")
