"""Small floating-point types: to their bits and back, and rounding to what they can say.

Rounded to the nearest, ties to even, as IEEE 754 does; what lies beyond the largest number is that
number, or infinite or no number where a type has such and the model does not ask to saturate.
Source: https://onnx.ai/onnx/technical/float8.html, float4.html; OCP Microscaling Formats v1.0
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import relax, te, tirx

from tilewright.compiler.importer.convert.sizes import kernel
from tilewright.compiler.small_types import BITS, VALUES, numpy_type

_FLOAT_MANTISSA, _FLOAT_BIAS = 23, 127
_SCALE = "float8_e8m0fnu"  # Powers of two, without a sign.


@dataclass(frozen=True)
class Format:
    """Bits of the mantissa, bias of the exponent, and codes without the sign.

    `greatest` is that of the largest number, `infinite` that of what is larger still, None where
    that is `nan`. `bits` are all bits. Of a type with `unsigned_zero` the code of -0 is NaN's.
    """

    bits: int
    mantissa: int
    bias: int
    greatest: int
    infinite: int | None
    nan: int
    unsigned_zero: bool = False


FORMATS = {
    "bfloat16": Format(16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0),
    "float8_e4m3fn": Format(8, 3, 7, 0x7E, None, 0x7F),
    "float8_e4m3fnuz": Format(8, 3, 8, 0x7F, None, 0x80, unsigned_zero=True),
    "float8_e5m2": Format(8, 2, 15, 0x7B, 0x7C, 0x7E),
    "float8_e5m2fnuz": Format(8, 2, 16, 0x7F, None, 0x80, unsigned_zero=True),
    # It has no code for either: the largest number, and what ml_dtypes makes of NaN.
    "float4_e2m1fn": Format(4, 1, 1, 0x7, 0x7, 0x8),
}


def encoded(
    bb: relax.BlockBuilder, x: relax.Expr, kind: str, saturate: bool = True, rounding: str = "up"
) -> relax.Expr:
    """The bits of float32 numbers as `kind`; `rounding` is that of powers of two alone."""
    if kind == _SCALE:
        code = lambda value: _power_of_two(value, saturate, rounding)  # noqa: E731
    else:
        code = lambda value: _code(value, FORMATS[kind], saturate)  # noqa: E731
    return _each(bb, x, lambda value: code(value).astype(BITS[kind]), "encode")


def decoded(bb: relax.BlockBuilder, bits: relax.Expr, kind: str) -> relax.Expr:
    """The float32 numbers that bits of `kind` are."""
    if kind == "bfloat16":
        return _each(
            bb,
            bits,
            lambda code: tirx.reinterpret("float32", _shifted(code.astype("uint32"), 16)),
            "decode",
        )
    every = np.arange(256, dtype=np.uint8).view(numpy_type(kind)).astype(np.float32)
    place = bb.emit(relax.op.astype(bits, "int32"))
    return bb.emit(relax.op.take(relax.const(every), place, 0, mode="clip"))


def rounded(
    bb: relax.BlockBuilder, x: relax.Expr, kind: str, saturate: bool = True, rounding: str = "up"
) -> relax.Expr:
    """`x` as numbers that `kind` has, in the type that is computed with.

    Integers keep their last bits (of two's complement).
    """
    if kind in VALUES:
        return _each(bb, x, lambda value: _wrapped(value, kind), "wrap")
    if str(x.ty.dtype) != "float32":
        x = bb.emit(relax.op.astype(x, "float32"))
    return decoded(bb, encoded(bb, x, kind, saturate, rounding), kind)


def _each(
    bb: relax.BlockBuilder, x: relax.Expr, function: Callable[[tirx.Expr], tirx.Expr], name: str
) -> relax.Expr:
    def compute(x: te.Tensor) -> te.Tensor:
        return te.compute(x.shape, lambda *at: function(x(*at)), name=name)

    return kernel(bb, compute, x, name=name)


def _code(x: tirx.Expr, form: Format, saturate: bool) -> tirx.Expr:
    """The code of a number, uint32."""
    size = tirx.abs(x)
    bits = tirx.reinterpret("uint32", size)
    drop = _FLOAT_MANTISSA - form.mantissa
    odd = _masked(tirx.shift_right(bits, _u32(drop)), 1)
    code = tirx.shift_right(bits + _u32((1 << (drop - 1)) - 1) + odd, _u32(drop))
    if form.bias != _FLOAT_BIAS:
        code = code - _u32((_FLOAT_BIAS - form.bias) << form.mantissa)
        # Below the least normal number codes are multiples of the least of all.
        scale = tirx.const(2.0 ** (form.bias - 1 + form.mantissa), "float32")
        least = tirx.const(2.0 ** (1 - form.bias), "float32")
        code = tirx.Select(size < least, tirx.nearbyint(size * scale).astype("uint32"), code)
    beyond = form.nan if form.infinite is None else form.infinite
    beyond = form.greatest if saturate else beyond
    code = tirx.Select(code > _u32(form.greatest), _u32(beyond), code)
    sign = tirx.shift_right(tirx.reinterpret("uint32", x), _u32(31))
    sign = tirx.shift_left(sign, _u32(form.bits - 1))
    if form.unsigned_zero:
        whole = tirx.Select(code == _u32(0), code, tirx.bitwise_or(code, sign))
    else:
        whole = tirx.bitwise_or(code, sign)
    return tirx.Select(tirx.isnan(x), _u32(form.nan), whole)


def _power_of_two(x: tirx.Expr, saturate: bool, rounding: str) -> tirx.Expr:
    """The code of a power of two; of what is negative or no number, that of NaN."""
    bits = tirx.reinterpret("uint32", x)
    exponent = tirx.shift_right(bits, _u32(_FLOAT_MANTISSA))
    rest = _masked(bits, (1 << _FLOAT_MANTISSA) - 1)
    half = 1 << (_FLOAT_MANTISSA - 1)
    # Float32 numbers without an exponent begin half way below code 1.
    tiny = exponent == _u32(0)
    more = {
        "up": tirx.Select(tiny, rest > _u32(half), rest > _u32(0)),
        "down": tirx.const(False, "bool"),
        "nearest": tirx.Select(tiny, rest > _u32(half), rest >= _u32(half)),
    }[rounding]
    code = exponent + more.astype("uint32")
    code = tirx.Select(code > _u32(254), _u32(254 if saturate else 255), code)
    return tirx.Select(tirx.any(tirx.isnan(x), bits >= _u32(1 << 31)), _u32(255), code)


def _wrapped(x: tirx.Expr, kind: str) -> tirx.Expr:
    bits = int(kind.removeprefix("u").removeprefix("int"))
    whole = x.astype("int32")
    low = tirx.bitwise_and(whole, tirx.const((1 << bits) - 1, "int32"))
    if not kind.startswith("u"):
        half = tirx.const(1 << (bits - 1), "int32")
        low = tirx.bitwise_xor(low, half) - half
    return low.astype(VALUES[kind])


def _u32(value: int) -> tirx.Expr:
    return tirx.const(value, "uint32")


def _masked(value: tirx.Expr, mask: int) -> tirx.Expr:
    return tirx.bitwise_and(value, _u32(mask))


def _shifted(value: tirx.Expr, by: int) -> tirx.Expr:
    return tirx.shift_left(value, _u32(by))
