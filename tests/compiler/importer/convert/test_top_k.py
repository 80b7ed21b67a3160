from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import models
from tests.compiling import compile_here, module_of, reference
from tests.examples import examples
from tests.net import Net, answers_each
from tilewright.compiler.importer.convert.top_k import FEW, MANY_TIMES
from tilewright.errors import ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("top_k")


@settings(max_examples=examples(20), deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    axis=st.integers(-3, 2),
    share=st.floats(0, 1),
    largest=st.integers(0, 1),
    seed=st.integers(0, 9),
)
def test_the_best_in_order(shape, axis, share, largest, seed, folder):
    """Few different numbers: many are equal, whose order counts too."""
    axis %= len(shape)
    k = round(share * shape[axis])
    net = Net(x=shape)
    found = net.add("TopK", "x", net.ints(k), axis=axis, largest=largest, outputs=2)
    x = np.random.default_rng(seed).integers(-3, 3, shape).astype(np.float32)
    answers_each(net.model(*found), folder, {"x": x})


@pytest.mark.parametrize("k", [1, FEW, FEW + 1, 1000 // MANY_TIMES, 251, 1000])
@pytest.mark.parametrize("order", ["drawn", "up", "down", "equal"])
def test_long_rows(k, order, tmp_path):
    net = Net(x=(2, 1000))
    found = net.add("TopK", "x", net.ints(k), outputs=2)
    x = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    x = {"drawn": x, "up": np.sort(x), "down": -np.sort(x), "equal": x.round()}[order]
    answers_each(net.model(*found), tmp_path, {"x": x})


@pytest.mark.parametrize("largest", [0, 1])
def test_a_number_that_is_computed(largest, tmp_path):
    net = Net(opset=18, x=("n", 5))
    net.input("k", (1,))
    proto = net.model(*net.add("TopK", "x", "k", axis=1, largest=largest, outputs=2))
    x = np.float32([[3, 1, 4, 1.5, 9], [2, 6, 5, 3.5, 8]])
    answers_each(proto, tmp_path, *({"x": x, "k": np.array([k])} for k in (0, 1, 3, 5)))


@pytest.mark.parametrize("opset", [9, 10, 11])
def test_where_k_is(opset, tmp_path):
    net = Net(opset=opset, x=(3, 7))
    given, fields = ((net.ints(2),), {}) if opset > 9 else ((), {"k": 2})
    proto = net.model(*net.add("TopK", "x", *given, axis=0, outputs=2, **fields))
    x = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    for ours, theirs in zip(module_of(proto, tmp_path)(x), reference(proto, {"x": x}), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", [models.INT64, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT32])
def test_other_types(kind, tmp_path):
    net = Net()
    net.input("x", (4, 6), kind)
    proto = net.model(*net.add("TopK", "x", net.ints(3), outputs=2))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    answers_each(proto, tmp_path, {"x": np.arange(24).reshape(4, 6)[:, ::-1].astype(dtype)})


def test_it_needs_nobody(tmp_path):
    net = Net(x=(4, 300))
    proto = net.model(*net.add("TopK", "x", net.ints(200), outputs=2))
    assert compile_here(proto, tmp_path).manifest["functions"] == "model"


def test_more_than_there_are(tmp_path):
    net = Net(opset=18, x=(4, 6))
    net.input("k", (1,))
    proto = net.model(*net.add("TopK", "x", "k", outputs=2))
    module = module_of(proto, tmp_path)
    with pytest.raises(Exception, match="more elements than there are"):
        module(np.zeros((4, 6), np.float32), np.array([7]))
    # onnx looks at constants of the model alone.
    k = net.Add(net.ints(3), net.ints(4))
    with pytest.raises(ModelError, match="more elements than there are: 7 of 6"):
        compile_here(net.model(*net.add("TopK", "x", k, outputs=2)), tmp_path)
