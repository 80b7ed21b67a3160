"""Converters of QuantizeLinear and DequantizeLinear, by tensor, by axis and by block.

    y = saturate(round(x / scale) + zero)        x = (y - zero) * scale

Source: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
"""

from __future__ import annotations

import numpy as np
from tvm import relax, te
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.minifloat import rounded
from tilewright.compiler.importer.convert.sizes import kernel
from tilewright.compiler.small_types import BITS, VALUES
from tilewright.errors import UnsupportedModel

_LIMITS = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


def quantize(
    bb: relax.BlockBuilder,
    x: relax.Expr,
    scale: relax.Expr,
    zero: relax.Expr | None,
    kind: str,
    axis: int,
    block: int,
    saturate: bool = True,
) -> relax.Expr:
    """`x` in units of `scale`, as numbers of the type `kind`."""
    x, scale = _float32(bb, x), _float32(bb, scale)
    y = bb.emit(relax.op.divide(x, _spread(bb, scale, x, axis, block)))
    if zero is not None:
        zero = _spread(bb, _float32(bb, zero), x, axis, block)
    if kind in BITS:
        return rounded(bb, y if zero is None else bb.emit(relax.op.add(y, zero)), kind, saturate)
    y = bb.emit(relax.op.round(y))
    y = y if zero is None else bb.emit(relax.op.add(y, zero))
    low, high = _LIMITS.get(kind) or (np.iinfo(kind).min, np.iinfo(kind).max)
    y = relax.op.minimum(relax.op.maximum(y, _number(low)), _number(high))
    return relax.op.astype(bb.emit(y), VALUES.get(kind, kind))


def dequantize(
    bb: relax.BlockBuilder,
    x: relax.Expr,
    scale: relax.Expr,
    zero: relax.Expr | None,
    axis: int,
    block: int,
    into: str | None = None,
) -> relax.Expr:
    """The numbers that quantised ones stand for, in the type `into` or that of `scale`."""
    dtype = into or str(scale.ty.dtype)
    y = _float32(bb, x)
    if zero is not None:
        y = bb.emit(relax.op.subtract(y, _spread(bb, _float32(bb, zero), x, axis, block)))
    y = relax.op.multiply(y, _spread(bb, _float32(bb, scale), x, axis, block))
    return relax.op.astype(bb.emit(y), dtype)


def _spread(
    bb: relax.BlockBuilder, value: relax.Expr, x: relax.Expr, axis: int, block: int
) -> relax.Expr:
    """A scale or zero point in a shape that is broadcast to that of `x`."""
    rank, own = x.ty.ndim, value.ty.ndim
    if own == 0:
        return value
    axis %= rank
    if not block:
        size = value.ty.shape[0]
        if isinstance(size, IntImm) and int(size) == 1:
            return bb.emit(relax.op.reshape(value, []))
        shape = [size if n == axis else 1 for n in range(rank)]
        return bb.emit(relax.op.reshape(value, relax.ShapeExpr(shape)))
    if own != rank:
        raise UnsupportedModel(f"scales with {own} axes", expected=f"{rank}, as the tensor has")

    def compute(value: te.Tensor, x: te.Tensor) -> te.Tensor:
        def place(at: tuple) -> list:
            return [i // block if n == axis else i for n, i in enumerate(at)]

        return te.compute(x.shape, lambda *at: value(*place(at)), name="spread")

    return kernel(bb, compute, value, x, name="spread")


def _float32(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
    return x if str(x.ty.dtype) == "float32" else bb.emit(relax.op.astype(x, "float32"))


def _number(value: int) -> relax.Expr:
    return relax.const(value, "float32")
