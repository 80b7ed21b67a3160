from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from tests.compiling import module_of
from tests.net import Net

PAIRS = [
    (np.float32, TensorProto.INT32, np.int32),
    (np.int64, TensorProto.DOUBLE, np.float64),
    (np.uint16, TensorProto.FLOAT16, np.float16),
    (np.int8, TensorProto.UINT8, np.uint8),
]


@pytest.mark.parametrize("dtype, kind, into", PAIRS)
def test_the_same_bits_as_another_type(dtype, kind, into, tmp_path):
    x = np.array([0, 1, 77, 100]).astype(dtype)
    net = Net(opset=26)
    net.input(
        "x",
        (4,),
        TensorProto.DataType.Value(np.dtype(dtype).name.upper().replace("FLOAT32", "FLOAT")),
    )
    y = module_of(net.model(net.BitCast("x", to=kind)), tmp_path)(x)
    assert y.dtype == into and y.tobytes() == x.tobytes()


def test_bits_of_a_small_type(tmp_path):
    net = Net(opset=26)
    net.input("x", (4,), TensorProto.UINT16)
    proto = net.model(net.Cast(net.BitCast("x", to=TensorProto.BFLOAT16), to=TensorProto.FLOAT))
    x = np.array([0x3F80, 0xC000, 0x7F80, 0], np.uint16)
    assert module_of(proto, tmp_path)(x).tolist() == [1.0, -2.0, np.inf, 0.0]
