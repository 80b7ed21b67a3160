"""Fuse a network's head: global average pool, flatten, linear layer.

Before   y = matmul(reshape(mean(x)), w) + b
After    y = pool_linear(x, w, b)

Declines when the mean is not over all positions of each channel, or the bias is not one value
per column.
"""

from __future__ import annotations

from tilewright.ops import GemmSpec
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
    axes = sorted(int(axis) % len(x) for axis in mean.attrs.axis or ()) if x else []
    if x is None or y is None or len(y) < 2 or axes != list(range(2, len(x))):
        return Decline(f"the mean is over axes {axes}, want all positions", at=match["mean"])
    bias = match.get("bias")
    if bias is not None and not is_per_channel(bias, len(y) - 1, y[-1], len(y)):
        return Decline(
            f"bias has shape {shape_of(bias)}, want one value per column of {y}",
            at=match["matmul"],
        )
    return GemmSpec(
        dtype=str(match["matmul"].ty.dtype),
        batch=y[:-2],
        m=y[-2],
        n=w[-1],
        k=w[0],
        constant_weights=True,
        epilogue=("bias",) if bias is not None else (),
    )


POOL_LINEAR = Fusion("pool_linear", pattern(), accept)
