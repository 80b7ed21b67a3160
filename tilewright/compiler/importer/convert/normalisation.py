"""Converters that divide by a norm."""

from __future__ import annotations

from tvm import relax

from tilewright.compiler.importer.convert.sizes import stock


def layer_normalization(
    bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int
) -> relax.Expr:
    """Over the axes from `axis` on; TVM's own kernel refuses float64 (LayerNormalization)."""
    x, scale = inputs[:2]
    dtype = str(x.ty.dtype)
    if dtype != "float64":
        return stock("LayerNormalization", bb, inputs, attrs, opset)
    axes = list(range(attrs.get("axis", -1) % x.ty.ndim, x.ty.ndim))
    centred = bb.emit(relax.op.subtract(x, bb.emit(relax.op.mean(x, axes, keepdims=True))))
    variance = bb.emit(relax.op.mean(bb.emit(relax.op.square(centred)), axes, keepdims=True))
    epsilon = relax.const(attrs.get("epsilon", 1e-5), dtype)
    deviation = bb.emit(relax.op.sqrt(bb.emit(relax.op.add(variance, epsilon))))
    y = bb.emit(relax.op.multiply(bb.emit(relax.op.divide(centred, deviation)), scale))
    if len(inputs) > 2 and inputs[2] is not None:
        y = bb.emit(relax.op.add(y, inputs[2]))
    return y


def instance_normalization(
    bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int
) -> relax.Expr:
    """Over all axes from 2 on; numbers of 16 bits are summed in float32 (InstanceNormalization)."""
    dtype = str(inputs[0].ty.dtype)
    if dtype not in ("float16", "bfloat16"):
        return stock("InstanceNormalization", bb, inputs, attrs, opset)
    wide = [bb.emit(relax.op.astype(value, "float32")) for value in inputs]
    y = bb.emit(stock("InstanceNormalization", bb, wide, attrs, opset))
    return relax.op.astype(y, dtype)


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
