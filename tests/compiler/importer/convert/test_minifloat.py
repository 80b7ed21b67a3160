from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.compiling import module_of
from tests.net import Net
from tilewright.compiler.small_types import BITS, VALUES

KINDS = {
    helper.tensor_dtype_to_np_dtype(kind).name: kind
    for kind in TensorProto.DataType.values()[1:]
    if kind != TensorProto.STRING
}
FLOATS = sorted(set(BITS) - {"float8_e8m0fnu"})
EDGES = np.float32([0.0, -0.0, 1e-30, -1e-9, 2**-10, 448, 464, 465, 57344, 61440, 1e30])


def _cast(kind: str, into: str, **attrs):
    net = Net(opset=25)
    net.input("x", ("n",), KINDS[kind])
    return net.model(net.Cast("x", to=KINDS[into], **attrs))


def _numbers() -> np.ndarray:
    random = np.random.default_rng(0)
    sizes = 2.0 ** random.uniform(-20, 17, 4000)
    return np.concatenate([EDGES, sizes * random.choice([-1, 1], 4000)]).astype(np.float32)


@pytest.mark.parametrize("kind", FLOATS)
def test_numbers_are_rounded_as_numpy_rounds_them(kind, tmp_path):
    """Where the type says how: ml_dtypes makes what is too large infinite or NaN."""
    x = _numbers()
    dtype = np.dtype(getattr(ml_dtypes, kind))
    y = module_of(_cast("float32", kind, saturate=0), tmp_path)(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype(np.float32), x.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("kind", FLOATS)
def test_what_is_too_large_is_the_largest(kind, tmp_path):
    if kind == "bfloat16":
        pytest.skip("it does not saturate")
    most = float(ml_dtypes.finfo(getattr(ml_dtypes, kind)).max)
    x = np.float32([1e9, -1e9, np.inf, -np.inf, most])
    y = module_of(_cast("float32", kind), tmp_path)(x)
    assert y.astype(np.float32).tolist() == [most, -most, most, -most, most]


@pytest.mark.parametrize("kind", [*FLOATS, "float8_e8m0fnu"])
def test_every_code_is_the_number_that_numpy_says(kind, tmp_path):
    dtype = np.dtype(getattr(ml_dtypes, kind))
    bits = 16 if kind == "float4_e2m1fn" else 1 << (8 * dtype.itemsize)
    x = np.arange(bits).astype(BITS[kind]).view(dtype)
    y = module_of(_cast(kind, "float32"), tmp_path)(x)
    np.testing.assert_array_equal(y, x.astype(np.float32))


@pytest.mark.parametrize("rounding, code", [("up", 1), ("down", 0), ("nearest", 1)])
def test_powers_of_two(rounding, code, tmp_path):
    x = np.float32([1.0, 1.5, 3.9, 2**-100, 2**-127, -1.0, np.nan])
    y = module_of(_cast("float32", "float8_e8m0fnu", round_mode=rounding), tmp_path)(x)
    bits = y.view(np.uint8).tolist()
    assert bits[0] == 127 and bits[1] == 127 + code and bits[3] == 27 and bits[4] == 0
    assert bits[2] == (128 if rounding == "down" else 129) and bits[5] == bits[6] == 255


@pytest.mark.parametrize("kind", VALUES)
def test_integers_keep_their_last_bits(kind, tmp_path):
    x = np.arange(-20, 21).astype(np.float32)
    y = module_of(_cast("float32", kind), tmp_path)(x)
    width = int(kind.lstrip("uint"))
    wrapped = x.astype(int) % (1 << width)
    if not kind.startswith("u"):
        wrapped = np.where(wrapped >= 1 << (width - 1), wrapped - (1 << width), wrapped)
    assert y.dtype.name == kind and (y.astype(int) == wrapped).all()


def test_bfloat16_is_computed_with_in_float32(tmp_path):
    net = Net(opset=23)
    for name in "ab":
        net.input(name, (4, 8), TensorProto.BFLOAT16)
    proto = net.model(net.Relu(net.Add(net.Mul("a", "b"), "a")))
    a, b = (np.random.default_rng(n).standard_normal((4, 8)) for n in (0, 1))
    a, b = (x.astype(ml_dtypes.bfloat16) for x in (a, b))
    y = module_of(proto, tmp_path)(a, b)
    wide = a.astype(np.float32) * b.astype(np.float32) + a.astype(np.float32)
    assert y.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(y, np.maximum(wide, 0).astype(ml_dtypes.bfloat16))


def test_another_type_than_the_inputs_is_refused(tmp_path):
    module = module_of(_cast("bfloat16", "float32"), tmp_path)
    with pytest.raises(Exception, match="is float32") as info:
        module(np.ones(3, np.float32))
    assert "bfloat16" in str(info.value) and models.FLOAT == 1
