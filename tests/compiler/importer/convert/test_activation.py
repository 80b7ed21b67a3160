from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.net import CONTRIB, Net, answers_each, keeps_numbers

X = {"x": np.float32([[-100, -4, -0.5, 0], [0.25, 3, 9, 100]])}


@pytest.mark.parametrize("alpha", [None, 0.5, 2.0])
@pytest.mark.parametrize("op", ["Celu", "Swish", "QuickGelu"])
def test_answers_as_onnx_runtime_does(op, alpha, tmp_path):
    net = Net(opset=24 if op == "Swish" else 17, x=(2, 4))
    attrs = {} if alpha is None else {"alpha": alpha}
    y = net.add(op, "x", domain=CONTRIB if op == "QuickGelu" else "", **attrs)
    keeps_numbers(net.model(y), tmp_path, given=X)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_exponential_units_keep_the_type(dtype, tmp_path):
    net = Net(opset=17)
    net.input("x", (2, 4), onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    proto = net.model(net.Elu("x", alpha=0.5), net.Selu("x"))
    answers_each(proto, tmp_path, {"x": X["x"].astype(dtype)}, tolerance=np.finfo(dtype).eps * 4)


def test_gelu_of_onnx_runtime(tmp_path):
    net = Net(x=(2, 4))
    work = keeps_numbers(net.model(net.Gelu("x", domain=CONTRIB)), tmp_path, given=X)
    assert len(work.kernels) == 1


@pytest.mark.parametrize("op", ["BiasGelu", "FastGelu"])
def test_a_bias_inside_is_a_bias(op, tmp_path):
    net = Net(x=(2, 4))
    y = net.add(op, net.MatMul("x", net.weight(4, 6)), net.weight(6), domain=CONTRIB)
    (group,) = keeps_numbers(net.model(y), tmp_path).fusions.groups
    assert group.spec.epilogue[0].name == "bias"


@pytest.mark.parametrize("slope", [(), (1,), (4,), (3, 1), (2, 1, 1), (2, 3, 4), (3, 4)])
def test_slopes_of_any_shape(slope, tmp_path):
    net = Net(opset=20, x=(2, 3, 4))
    proto = net.model(net.PRelu("x", net.weight(*slope)))
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    answers_each(proto, tmp_path, {"x": x})


def test_a_slope_of_a_number(tmp_path):
    net = Net(opset=20)
    net.input("x", (), onnx.TensorProto.FLOAT)
    proto = net.model(net.PRelu("x", net.weight()))
    answers_each(proto, tmp_path, {"x": np.float32(-2)}, {"x": np.float32(2)})


def test_one_slope_along_an_open_size(tmp_path):
    net = Net(opset=20, x=(2, 3, "n"))
    proto = net.model(net.PRelu("x", net.weight(1)))
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    answers_each(proto, tmp_path, {"x": x}, {"x": x[..., :1]})
