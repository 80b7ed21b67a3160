from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.net import Net, answers_each


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("p", [1, 2])
def test_over_a_norm(p, axis, tmp_path):
    net = Net(x=(3, "n"))
    proto = net.model(net.LpNormalization("x", axis=axis, p=p))
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    answers_each(proto, tmp_path, {"x": x}, {"x": x[:, :2]})


def test_of_nothing_there_is_nothing(tmp_path):
    net = Net(x=(2, 3))
    answers_each(net.model(net.LpNormalization("x")), tmp_path, {"x": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_in_double_precision(axis, tmp_path):
    net = Net(opset=17)
    net.input("x", ("n", 3, 4), onnx.TensorProto.DOUBLE)
    rng = np.random.default_rng(0)
    shape = (3, 4) if axis == 1 else (4,)
    weights = [net.const(rng.standard_normal(shape), "float64") for _ in range(2)]
    proto = net.model(net.LayerNormalization("x", *weights, axis=axis, epsilon=1e-3))
    x = rng.standard_normal((5, 3, 4))
    answers_each(proto, tmp_path, {"x": x}, {"x": x[:2]}, tolerance=1e-12)


def test_instance_normalization_of_16_bits_sums_in_32(tmp_path):
    net = Net(opset=20)
    net.input("x", (3, 1, 1920), onnx.TensorProto.FLOAT16)
    weights = [net.const([value], "float16") for value in (1.5, 0.5)]
    proto = net.model(net.InstanceNormalization("x", *weights, epsilon=1e-3))
    x = np.random.default_rng(0).normal(2, 1, (3, 1, 1920)).astype(np.float16)
    answers_each(proto, tmp_path, {"x": x}, tolerance=1e-3)
