from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.compiling import module_of
from tests.net import Net, answers_each

X = np.random.default_rng(0).uniform(-4, 4, (4, 6)).astype(np.float32)


@pytest.mark.parametrize("axis, block", [(0, 2), (1, 3), (-1, 2)])
def test_blocks_have_scales_of_their_own(axis, block, tmp_path):
    shape = [size // block if n == axis % 2 else size for n, size in enumerate(X.shape)]
    net = Net(opset=21, x=X.shape)
    scale = net.const(np.random.default_rng(1).uniform(0.05, 0.2, shape).astype(np.float32))
    zero = net.const(np.full(shape, 3), np.int8)
    q = net.QuantizeLinear("x", scale, zero, axis=axis, block_size=block)
    proto = net.model(q, net.DequantizeLinear(q, scale, zero, axis=axis, block_size=block))
    answers_each(proto, tmp_path, {"x": X})


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "int4", "uint4"])
def test_small_types(kind, tmp_path):
    """ONNX Runtime has kernels for some of them only."""
    dtype = np.dtype(getattr(ml_dtypes, kind))
    net = Net(opset=23, x=X.shape)
    scale, zero = net.const(0.5), net.input("zero", (), helper.np_dtype_to_tensor_dtype(dtype))
    q = net.QuantizeLinear("x", scale, zero)
    proto = net.model(q, net.DequantizeLinear(q, scale, zero))
    codes, numbers = module_of(proto, tmp_path)({"x": X, "zero": np.zeros((), dtype)})
    expected = X / np.float32(0.5)
    if "int" in kind:
        limits = ml_dtypes.iinfo(dtype)
        expected = np.clip(np.rint(expected), int(limits.min), int(limits.max))
    expected = expected.astype(dtype).astype(np.float32)
    assert codes.dtype == dtype
    np.testing.assert_array_equal(codes.astype(np.float32), expected)
    np.testing.assert_allclose(numbers, expected * 0.5)


def test_the_type_may_be_said_by_an_attribute(tmp_path):
    net = Net(opset=21, x=X.shape)
    scale = net.const(np.full((2, 6), 0.01, np.float32))
    kind = TensorProto.INT16
    y = net.QuantizeLinear("x", scale, axis=0, block_size=2, output_dtype=kind)
    y = module_of(net.model(y), tmp_path)(X)
    assert y.dtype == np.int16 and (y == np.rint(X / np.float32(0.01))).all()
