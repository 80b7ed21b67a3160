"""Our own operators of the reference, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from tests import models
from tests.compiling import session
from tilewright.compiler.importer.load import load
from tilewright.verification.reference import DoubleReference


def _agrees(proto, tmp_path, feed, tolerance=2e-5):
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    found = DoubleReference(load(path))(feed)
    for output, wanted in zip(proto.graph.output, session(proto).run(None, feed), strict=True):
        ours = found[output.name]
        assert ours.shape == wanted.shape
        assert np.abs(ours - wanted).max(initial=0) <= tolerance * np.abs(wanted).max(initial=1)


def _conv(op, x, w, attrs, bias=None):
    weights = {"w": models.weight("w", w)} | ({"b": models.weight("b", bias)} if bias else {})
    node = helper.make_node(op, ["x", *weights], ["y"], **attrs)
    rank = len(x)
    return models.model([node], [models.value("x", x)], [models.value("y", [None] * rank)], weights)


CONVS = [
    ({"pads": [1, 0, 2, 1]}, 1),
    ({"strides": [2, 3], "dilations": [2, 1]}, 1),
    ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, 1),
    ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, 1),
    ({"auto_pad": "VALID"}, 1),
    ({"group": 2}, 2),
    ({"group": 4, "pads": [1, 1, 1, 1]}, 4),
]


@pytest.mark.parametrize("attrs, groups", CONVS)
def test_conv(attrs, groups, tmp_path):
    proto = _conv("Conv", (2, 4, 9, 11), (8, 4 // groups, 3, 2), attrs, (8,))
    _agrees(proto, tmp_path, {"x": models.weight("x", (2, 4, 9, 11))})


TRANSPOSED = [
    ({"strides": [2, 2], "pads": [1, 0, 0, 1]}, 1),
    ({"strides": [3, 2], "output_padding": [2, 1]}, 1),
    ({"strides": [2, 2], "output_shape": [11, 12]}, 1),
    ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, 1),
    ({"strides": [2, 2], "auto_pad": "SAME_LOWER"}, 1),
    ({"dilations": [2, 1], "group": 2}, 2),
]


@pytest.mark.parametrize("attrs, groups", TRANSPOSED)
def test_conv_transpose(attrs, groups, tmp_path):
    proto = _conv("ConvTranspose", (1, 4, 5, 6), (4, 6 // groups, 3, 2), attrs, (6,))
    _agrees(proto, tmp_path, {"x": models.weight("x", (1, 4, 5, 6))})


@pytest.mark.parametrize("op, x, w", [("Conv", 17, 3), ("ConvTranspose", 7, 4)])
def test_one_dimension(op, x, w, tmp_path):
    proto = _conv(op, (2, 4, x), (4, 4, w), {"strides": [2]})
    _agrees(proto, tmp_path, {"x": models.weight("x", (2, 4, x))})


@pytest.mark.parametrize("opset", [9, 17])
def test_batch_normalization_keeps_its_statistics(opset, tmp_path):
    weights = {name: models.weight(name, (3,)) for name in ("s", "b", "m")}
    weights["v"] = np.float32([0.5, 1.0, 2.0])
    node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], momentum=0.9)
    x = models.value("x", (2, 3, 4))
    proto = models.model([node], [x], [models.value("y", (2, 3, 4))], weights, opset, 4)
    _agrees(proto, tmp_path, {"x": models.weight("x", (2, 3, 4))})


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_gather_elements(tmp_path_factory, data):
    rank = data.draw(st.integers(1, 3))
    shape = data.draw(st.tuples(*[st.integers(1, 70)] * rank))
    axis = data.draw(st.integers(-rank, rank - 1))
    size = list(shape)
    size[axis] = data.draw(st.integers(1, 9))
    rng = np.random.default_rng(0)
    feed = {
        "x": rng.standard_normal(shape).astype(np.float32),
        "i": rng.integers(-shape[axis], shape[axis], size),
    }
    node = helper.make_node("GatherElements", ["x", "i"], ["y"], axis=axis)
    inputs = [models.value("x", shape), models.value("i", size, models.INT64)]
    proto = models.model([node], inputs, [models.value("y", size)])
    _agrees(proto, tmp_path_factory.mktemp("m"), feed, 0)


POOLS = [
    {"pads": [0, 1, 0, 1]},
    {"pads": [1, 0, 2, 1], "strides": [2, 3]},
    {"pads": [1, 1, 1, 1], "strides": [2, 3], "ceil_mode": 1},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"dilations": [2, 1], "pads": [1, 1, 1, 1]},
]
KINDS = [("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})]


@pytest.mark.parametrize("op, more", KINDS)
@pytest.mark.parametrize("attrs", POOLS)
def test_pools(attrs, op, more, tmp_path):
    node = helper.make_node(op, ["x"], ["y"], kernel_shape=[3, 2], **attrs, **more)
    x = models.value("x", (2, 4, 9, 11))
    proto = models.model([node], [x], [models.value("y", [None] * 4)], {}, 19)
    _agrees(proto, tmp_path, {"x": models.weight("x", (2, 4, 9, 11))})


@pytest.mark.parametrize("shape", [(2, 4, 7), (2, 4, 5, 3), (1, 3, 2, 3, 4)])
def test_global_max_pools(shape, tmp_path):
    node = helper.make_node("GlobalMaxPool", ["x"], ["y"])
    output = models.value("y", [None] * len(shape))
    proto = models.model([node], [models.value("x", shape)], [output], {}, 19)
    _agrees(proto, tmp_path, {"x": models.weight("x", shape)}, tolerance=0)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_softsign_of_a_scalar_too(shape, tmp_path):
    node = helper.make_node("Softsign", ["x"], ["y"])
    proto = models.model([node], [models.value("x", shape)], [models.value("y", shape)], {}, 19)
    _agrees(proto, tmp_path, {"x": np.full(shape, -3.0, np.float32)}, tolerance=0)
