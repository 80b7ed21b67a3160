"""Fuse a matrix product with bias, residual and activation.

Before   y = gelu(matmul(x, w) + b)
After    y = linear(x, w, b)

Declines when the bias is not one value per output column (a full-size one is a residual), or
the residual has another shape than the product.
"""

from __future__ import annotations

from tilewright.ops import GemmSpec
from tilewright.passes.epilogue import epilogue, residual_problem, steps_of
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Constant, Graph, Match, Op, Pattern, maybe
from tilewright.passes.relax_constants import is_constant
from tilewright.passes.shapes import is_per_channel, shape_of


def product(x: Pattern, weights: str, bias: str, name: str | None = None) -> Pattern:
    """X @ w [+ b], the two constants under their names."""
    return maybe(
        lambda y: Op("relax.add", y, Constant(bias)),
        Op("relax.matmul", x, Constant(weights), name=name),
    )


def pattern() -> Pattern:
    """X @ w with its epilogue."""
    return epilogue(Op("relax.matmul", Any("x"), Any("w"), name="matmul"))


def accept(match: Match, graph: Graph) -> GemmSpec | Decline:
    """A GemmSpec with everything in the store as its epilogue."""
    x, w, y = (shape_of(match[name]) for name in ("x", "w", "matmul"))
    if x is None or w is None or y is None or min(len(x), len(w)) < 2:
        return Decline("a shape is not known, or a factor is a vector", at=match["matmul"])
    bias = match.get("bias")
    if bias is not None and not is_per_channel(bias, len(y) - 1, y[-1], len(y)):
        return Decline(
            f"bias has shape {shape_of(bias)}, want one value per column of {y}",
            at=match["matmul"],
        )
    if problem := residual_problem(match, y):
        return Decline(problem, at=match["matmul"])
    return GemmSpec(
        dtype=str(match["matmul"].ty.dtype),
        x=x,
        w=w,
        constant_weights=is_constant(graph.bound(match["w"])[1]),
        epilogue=steps_of(match, graph),
    )


LINEAR = Fusion("linear", pattern(), accept)
