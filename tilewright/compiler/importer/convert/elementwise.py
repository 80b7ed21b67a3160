"""Converters of elementwise operators that TVM's importer gets wrong or makes opaque."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax, tirx
from tvm.ir import GenericConst

from tilewright.compiler.importer.convert.sizes import stock


def clip(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Clip, as `relax.clip` when the bounds are constants, so that later passes see a ReLU6.

    TVM's own converter makes TIR functions of it, at which layout and fusion stop. A bound
    that is NaN does not bound, as in ONNX Runtime.
    """
    x = inputs[0]
    low, high = _clip_bounds(inputs, attrs, opset)
    dtype = str(x.ty.dtype)
    if isinstance(low, relax.Var) or isinstance(high, relax.Var):
        y = x
        if low is not None:
            y = bb.emit(relax.op.maximum(_unbounded_if_nan(bb, low, -np.inf), y))
        if high is not None:
            y = bb.emit(relax.op.minimum(_unbounded_if_nan(bb, high, np.inf), y))
        return y
    least, most = _extremes(dtype)
    return relax.op.clip(
        x,
        tirx.const(least if low is None or np.isnan(low) else low, dtype),
        tirx.const(most if high is None or np.isnan(high) else high, dtype),
    )


def _clip_bounds(inputs: list, attrs: dict, opset: int) -> tuple:
    if opset < 11:
        return attrs.get("min"), attrs.get("max")
    given = [inputs[i] if i < len(inputs) else None for i in (1, 2)]
    return tuple(v.value.numpy().item() if isinstance(v, GenericConst) else v for v in given)


def _unbounded_if_nan(bb: relax.BlockBuilder, bound: relax.Expr, free: float) -> relax.Expr:
    dtype = str(bound.ty.dtype)
    if not dtype.startswith(("float", "bfloat")):
        return bound
    return bb.emit(relax.op.where(relax.op.isnan(bound), relax.const(free, dtype), bound))


def _extremes(dtype: str) -> tuple[float, float] | tuple[int, int]:
    if dtype.startswith(("float", "bfloat")):
        return -np.inf, np.inf
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def extreme(operator: str) -> Callable:
    """The converter of Max or Min: pairs, which patterns see as a ReLU or a clip.

    TVM's own broadcasts all inputs, stacks them and reduces the stack.
    """
    pick = {"Max": relax.op.maximum, "Min": relax.op.minimum}[operator]

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        if any(isinstance(value, relax.ShapeExpr) for value in inputs):
            return stock(operator, bb, inputs, attrs, opset)
        result = inputs[0]
        for value in inputs[1:]:
            result = bb.emit(pick(result, value))
        return result

    return convert


def hard_sigmoid(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """max(0, min(1, alpha * x + beta)): ONNX operator HardSigmoid, defaults 0.2 and 0.5."""
    x = inputs[0]
    dtype = str(x.ty.dtype)
    alpha = relax.const(attrs.get("alpha", 0.2), dtype)
    beta = relax.const(attrs.get("beta", 0.5), dtype)
    line = bb.emit(relax.op.add(relax.op.multiply(x, alpha), beta))
    return relax.op.clip(line, tirx.const(0.0, dtype), tirx.const(1.0, dtype))


def power(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Pow: the result has the type of the base, whatever that of the exponent (since version 12).

    Powers of integers are computed in float64: exact up to 2^53.
    """
    base, exponent = inputs
    dtype = str(base.ty.dtype)
    if dtype.startswith("float"):
        if str(exponent.ty.dtype) != dtype:
            exponent = bb.emit(relax.op.astype(exponent, dtype))
        return relax.op.power(base, exponent)
    wide = (bb.emit(relax.op.astype(x, "float64")) for x in (base, exponent))
    y = bb.emit(relax.op.power(*wide))
    # What is whole may have come out a little less.
    near = bb.emit(relax.op.round(y))
    close = relax.op.less(relax.op.abs(relax.op.subtract(y, near)), relax.const(1e-9, "float64"))
    return relax.op.astype(bb.emit(relax.op.where(close, near, relax.op.trunc(y))), dtype)


def is_inf(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """IsInf, of one sign or of both (ONNX operator IsInf, since version 10)."""
    x = inputs[0]
    found = relax.op.isinf(x)
    zero = relax.const(0, str(x.ty.dtype))
    if not attrs.get("detect_negative", 1):
        found = relax.op.logical_and(found, relax.op.greater(x, zero))
    if not attrs.get("detect_positive", 1):
        found = relax.op.logical_and(found, relax.op.less(x, zero))
    return found
