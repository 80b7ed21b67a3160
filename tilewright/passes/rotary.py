"""Fuse rotary position embedding.

Before   y = x * cos + concat(-x[..., half:], x[..., :half]) * sin
After    y = rotary(x, cos, sin)

Source: Su et al. 2021, "RoFormer", section 3.2, in the half-split form that Llama exports.
Declines when the two slices are not the halves of the last axis.
"""

from __future__ import annotations

from tilewright.ops import RotarySpec
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Fields, Graph, Match, Op, Pattern
from tilewright.passes.shapes import cut_of, shape_of


def pattern() -> Pattern:
    """X * cos + rotated halves * sin; cos and sin may be computed."""
    x = Any("x")
    second = Op("relax.negative", Op("relax.strided_slice", x, name="second"))
    first = Op("relax.strided_slice", x, name="first")
    turned = Op("relax.concat", Fields(second, first), name="turned")
    straight = Op("relax.multiply", x, Any("cos"))
    return Op("relax.add", straight, Op("relax.multiply", turned, Any("sin")), name="sum")


def accept(match: Match, graph: Graph) -> RotarySpec | Decline:
    """A RotarySpec of the input's shape."""
    x = shape_of(match["x"])
    first, second = shape_of(match["first"]), shape_of(match["second"])
    if x is None or not isinstance(x[-1], int):
        return Decline("the head size is not known", at=match["sum"])
    half = (*x[:-1], x[-1] // 2)
    cuts = [cut_of(graph.bound(match[name])[1]) for name in ("first", "second")]
    if shape_of(match["sum"]) != x:
        return Decline(f"the sum has shape {shape_of(match['sum'])}, want {x}", at=match["sum"])
    if first != half or second != half or cuts != [(len(x) - 1, at) for at in (0, half[-1])]:
        return Decline(f"the slices are {first} and {second}, want halves of {x}", at=match["sum"])
    cos, sin = shape_of(match["cos"]), shape_of(match["sin"])
    return RotarySpec(dtype=str(match["x"].ty.dtype), x=x, cos=cos, sin=sin)


ROTARY = Fusion("rotary", pattern(), accept)
