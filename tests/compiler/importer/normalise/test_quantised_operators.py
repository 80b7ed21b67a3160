from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.net import Net, answers_each

random = np.random.default_rng(0)
X = random.integers(0, 256, (1, 4, 6, 6), np.uint8)
W = random.integers(-128, 128, (8, 4, 3, 3)).astype(np.int8)


def _net(shape=X.shape) -> Net:
    net = Net(opset=21)
    net.input("x", shape, TensorProto.UINT8)
    return net


@pytest.mark.parametrize("scales", [1, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_qlinear_conv(scales, bias, tmp_path):
    net = _net()
    per_filter = random.uniform(0.01, 0.02, scales) if scales > 1 else 0.015
    given = [
        *("x", net.const(0.02), net.const(120, np.uint8), net.const(W, np.int8)),
        *(net.const(per_filter), net.const(np.zeros(np.shape(per_filter)), np.int8)),
        *(net.const(0.3), net.const(128, np.uint8)),
        *([net.const(random.integers(-500, 500, 8), np.int32)] if bias else []),
    ]
    proto = net.model(net.add("QLinearConv", *given, pads=[1, 1, 1, 1]))
    # Where a sum lies half way, another order of additions goes the other way.
    answers_each(proto, tmp_path, {"x": X}, tolerance=1)


def test_qlinear_matmul(tmp_path):
    net = _net((3, 8))
    w = random.integers(-128, 128, (8, 5)).astype(np.int8)
    given = [
        *("x", net.const(0.02), net.const(100, np.uint8), net.const(w, np.int8)),
        *(net.const(0.01), net.const(0, np.int8), net.const(0.1), net.const(128, np.uint8)),
    ]
    x = random.integers(0, 256, (3, 8), np.uint8)
    answers_each(net.model(net.add("QLinearMatMul", *given)), tmp_path, {"x": x}, tolerance=1)


@pytest.mark.parametrize("zeros", [(), (120,), (120, 3)])
def test_conv_integer(zeros, tmp_path):
    net = _net()
    kinds = (np.uint8, np.uint8)
    points = [net.const(zero, kind) for zero, kind in zip(zeros, kinds, strict=False)]
    w = net.const(W.view(np.uint8), np.uint8)
    proto = net.model(net.add("ConvInteger", "x", w, *points, strides=[2, 2]))
    answers_each(proto, tmp_path, {"x": X})
