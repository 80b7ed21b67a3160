"""Converters of activations: what TVM's importer lacks, or has for float32 alone."""

from __future__ import annotations

from tvm import relax
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.sizes import stock


def celu(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)): ONNX operator Celu, alpha 1 by default."""
    x = inputs[0]
    zero, one, alpha = (relax.const(v, str(x.ty.dtype)) for v in (0, 1, attrs.get("alpha", 1.0)))
    power = bb.emit(relax.op.exp(bb.emit(relax.op.divide(x, alpha))))
    below = bb.emit(relax.op.multiply(alpha, bb.emit(relax.op.subtract(power, one))))
    return relax.op.add(bb.emit(relax.op.nn.relu(x)), bb.emit(relax.op.minimum(below, zero)))


def elu(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """X above 0, alpha * (exp(x) - 1) below: ONNX operator Elu, alpha 1 by default."""
    return _elu(bb, inputs[0], attrs.get("alpha", 1.0))


def prelu(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """X above 0, slope * x below (PRelu); TVM has it along an axis of a known size."""
    x, slope = inputs
    if x.ty.shape is None or not isinstance(slope.ty.shape, relax.ShapeExpr):
        return stock("PRelu", bb, inputs, attrs, opset)
    places = [place for place, size in enumerate(slope.ty.shape) if size != 1] or [-1]
    axis = places[0] % slope.ty.ndim - slope.ty.ndim if slope.ty.ndim else -1
    if len(places) == 1 and x.ty.ndim and isinstance(list(x.ty.shape)[axis], IntImm):
        return stock("PRelu", bb, inputs, attrs, opset)
    dtype = str(x.ty.dtype)
    below = bb.emit(relax.op.multiply(x, slope))
    return relax.op.where(bb.emit(relax.op.greater(x, relax.const(0, dtype))), x, below)


def selu(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Elu times gamma: ONNX operator Selu."""
    x = inputs[0]
    gamma = attrs.get("gamma", 1.05070102214813232421875)
    y = bb.emit(_elu(bb, x, attrs.get("alpha", 1.67326319217681884765625)))
    return relax.op.multiply(relax.const(gamma, str(x.ty.dtype)), y)


def _elu(bb: relax.BlockBuilder, x: relax.Expr, alpha: float) -> relax.Expr:
    one, factor = (relax.const(v, str(x.ty.dtype)) for v in (1, -alpha))
    lacks = bb.emit(relax.op.subtract(one, bb.emit(relax.op.exp(x))))
    below = bb.emit(relax.op.multiply(factor, bb.emit(relax.op.nn.relu(lacks))))
    return relax.op.add(below, bb.emit(relax.op.nn.relu(x)))


def swish(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """X * sigmoid(alpha * x): ONNX operator Swish, since version 24, alpha 1 by default."""
    return _swish(bb, inputs[0], attrs.get("alpha", 1.0))


def quick_gelu(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """X * sigmoid(alpha * x): com.microsoft::QuickGelu, alpha 1.702 by default."""
    return _swish(bb, inputs[0], attrs.get("alpha", 1.702))


def _swish(bb: relax.BlockBuilder, x: relax.Expr, alpha: float) -> relax.Expr:
    scaled = x
    if alpha != 1:
        scaled = bb.emit(relax.op.multiply(x, relax.const(alpha, str(x.ty.dtype))))
    return relax.op.multiply(x, bb.emit(relax.op.sigmoid(scaled)))


def gelu(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """com.microsoft::Gelu, which has the form with erf only."""
    return relax.op.nn.gelu(inputs[0])
