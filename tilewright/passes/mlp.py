"""Fuse two linear layers with the activation between them, gated or not.

Before   y = gelu(x @ w1 + b1) @ w2 + b2 [+ r]       y = (silu(x @ w1) * (x @ w3)) @ w2
After    y = mlp(x, w1, b1, w2, b2[, r])             y = mlp(x, w1, w3, w2)

A transpose and a learnt scale per column may stand before the residual, as in ConvNeXt.
Declines when a bias is not one value per column or the residual has another shape. A hidden
value that something else reads keeps the layers apart.
"""

from __future__ import annotations

from tvm import relax

from tilewright.ops import MlpSpec
from tilewright.ops.spec import Shape
from tilewright.passes.activations import activation
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.linear import product
from tilewright.passes.pattern import Any, Constant, Either, Graph, Match, Op, Pattern, maybe
from tilewright.passes.shapes import is_per_channel, shape_of


def pattern() -> Pattern:
    """linear, activation [times a second linear of the same input], linear [+ residual]."""
    x = Any("x")
    active = activation(product(x, "w1", "b1"))
    gated = Op("relax.multiply", active, product(x, "w3", "b3", name="gate"))
    # The activation first: SiLU written out is a layer times the sigmoid of the same layer.
    out = product(Either(active, gated), "w2", "b2", name="out")
    placed = maybe(lambda y: Op("relax.permute_dims", y, name="placed"), out)
    scaled = maybe(lambda y: Op("relax.multiply", y, Constant("layer_scale")), placed)
    return maybe(lambda y: Op("relax.add", y, Any("residual")), scaled)


def accept(match: Match, graph: Graph) -> MlpSpec | Decline:
    """An MlpSpec with the widths of the weights."""
    x, w1, w2, y = (shape_of(match[name]) for name in ("x", "w1", "w2", "out"))
    if x is None or y is None or len(w1) != 2 or len(w2) != 2:
        return Decline("a shape is not known, or the weights have a batch", at=match["out"])
    for bias, width in (("b1", w1[1]), ("b2", w2[1]), ("b3", w1[1])):
        value = match.get(bias)
        if value is not None and not is_per_channel(value, len(x) - 1, width, len(x)):
            return Decline(
                f"bias has shape {shape_of(value)}, want one value per column", at=match["out"]
            )
    residual = match.get("residual")
    placed = match.get("placed")
    result = y if placed is None else shape_of(placed)
    if residual is not None and shape_of(residual) != result:
        return Decline(
            f"what is added has shape {shape_of(residual)}, want {result}", at=match["out"]
        )
    scale = match.get("layer_scale")
    if scale is not None and not _is_layer_scale(scale, result, w2[1]):
        return Decline(
            f"the scale has shape {shape_of(scale)}, want one value per column", at=match["out"]
        )
    steps = (
        ("bias", match.get("b2") is not None),
        ("transpose", placed is not None),
        ("layer_scale", scale is not None),
        ("residual", residual is not None),
    )
    return MlpSpec(
        dtype=str(match["out"].ty.dtype),
        x=x,
        hidden=w1[1],
        out=w2[1],
        activation=match["activation"],
        gated=match.get("gate") is not None,
        epilogue=tuple(name for name, there in steps if there),
    )


def _is_layer_scale(scale: relax.Expr, result: Shape, width: int) -> bool:
    """One learnt factor per column, wherever a transpose has put the columns."""
    rank = len(result)
    return any(
        result[axis] == width and is_per_channel(scale, axis, width, rank) for axis in range(rank)
    )


MLP = Fusion("mlp", pattern(), accept)
