"""Fuse a network's head: global average pool, flatten, linear layer.

Before   y = matmul(reshape(mean(x)), w) + b
After    y = pool_linear(x, w, b)

Declines when the mean is not over all positions of each channel, when it is reshaped to another
shape than [batch, channels], or when the bias is not one value per column.
"""

from __future__ import annotations

from tilewright.ops import GemmSpec, Step
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.linear import product
from tilewright.passes.pattern import Any, Graph, Match, Op, Pattern, maybe
from tilewright.passes.shapes import is_per_channel, shape_of

_RESHAPES = ("relax.reshape", "relax.squeeze")


def pattern() -> Pattern:
    """mean, one or two reshapes, matmul, bias."""
    pooled = Op("relax.mean", Any("x"), name="mean")
    flat = maybe(lambda y: Op(_RESHAPES, y), maybe(lambda y: Op(_RESHAPES, y), pooled))
    return product(flat, "w", "bias", name="matmul")


def accept(match: Match, graph: Graph) -> GemmSpec | Decline:
    """A GemmSpec whose input is pooled; [batch, channels] by [channels, classes]."""
    x, y, w = (shape_of(match[name]) for name in ("x", "matmul", "w"))
    _, mean = graph.bound(match["mean"])
    if x is None or y is None:
        return Decline("a shape is not known", at=match["mean"], mend="use --shape")
    axes = sorted(int(axis) % len(x) for axis in mean.attrs.axis or range(len(x)))
    if axes != list(range(2, len(x))) or len(x) < 3:
        return Decline(f"the mean is over axes {axes}, want all positions", at=match["mean"])
    flat = shape_of(graph.bound(match["matmul"])[1].args[0])
    if flat != x[:2] or len(w) != 2:
        return Decline(f"the product is of {flat} and {w}, want {x[:2]}", at=match["matmul"])
    bias = match.get("bias")
    if bias is not None and not is_per_channel(bias, len(y) - 1, y[-1], len(y)):
        return Decline(
            f"bias has shape {shape_of(bias)}, want one value per column of {y}",
            at=match["matmul"],
        )
    return GemmSpec(
        dtype=str(match["matmul"].ty.dtype),
        x=x,
        w=w,
        constant_weights=True,
        pooled=True,
        epilogue=(Step("bias"),) if bias is not None else (),
    )


POOL_LINEAR = Fusion("pool_linear", pattern(), accept)
