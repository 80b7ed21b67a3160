"""Converters that divide by a norm."""

from __future__ import annotations

from tvm import relax


def lp_normalization(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """X over its 1-norm or 2-norm along an axis; 0 where that is 0 (ONNX LpNormalization)."""
    x = inputs[0]
    axis = attrs.get("axis", -1) % x.ty.ndim
    if attrs.get("p", 2) == 1:
        norm = relax.op.sum(relax.op.abs(x), axis, keepdims=True)
    else:
        norm = relax.op.sqrt(relax.op.sum(relax.op.square(x), axis, keepdims=True))
    norm = bb.emit(norm)
    zero = relax.const(0, str(x.ty.dtype))
    one = relax.const(1, str(x.ty.dtype))
    safe = bb.emit(relax.op.where(relax.op.equal(norm, zero), one, norm))
    return relax.op.divide(x, safe)
