"""Softmax and its logarithm, as one operator or written out.

Before   e = exp(x - max(x));  y = e / sum(e)        y = x - m - log(sum(exp(x - m)))
After    y = softmax(x)                              y = softmax(x)    (its spec says `log`)

The maximum may be missing. Declines when the reductions are not all over the same, single axis. A
softmax in the middle of an attention belongs to that.
"""

from __future__ import annotations

from tvm import relax

from tilewright.ops import SoftmaxSpec
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Either, Graph, Match, Op, Pattern, Tagged
from tilewright.passes.shapes import shape_of

_REDUCTIONS = ("native", "max", "sum")


def pattern() -> Pattern:
    """Softmax or its logarithm of x."""
    x = Any("x")
    shifted = Either(Op("relax.subtract", x, Op("relax.max", x, name="max")), x)
    power = Op("relax.exp", shifted)
    total = Op("relax.sum", power, name="sum")
    softmax = Either(Op("relax.nn.softmax", x, name="native"), Op("relax.divide", power, total))
    logarithm = Either(
        Op("relax.nn.log_softmax", x, name="native"),
        Op("relax.log", softmax),
        Op("relax.subtract", shifted, Op("relax.log", total)),
    )
    return Either(Tagged(logarithm, "kind", "log"), Tagged(softmax, "kind", "plain"))


def accept(match: Match, graph: Graph) -> SoftmaxSpec | Decline:
    """A SoftmaxSpec; the axis counts from the front."""
    x = shape_of(match["x"])
    if x is None:
        return Decline("the input's shape is not known", at=match["x"], mend="use --shape")
    found = [name for name in _REDUCTIONS if match.get(name) is not None]
    axes = [_axes(match[name], len(x), graph) for name in found]
    if len(axes[0]) != 1 or any(other != axes[0] for other in axes):
        shown = ", ".join(f"{name} over {on}" for name, on in zip(found, axes, strict=True))
        return Decline(f"{shown}: want the same, single axis", at=match["x"])
    # Where the axis has gone from the maximum or the sum, the rest broadcasts along another one.
    if any(match[name].ty.ndim != len(x) for name in found):
        return Decline("a reduction drops its axis", at=match["x"])
    return SoftmaxSpec(str(match["x"].ty.dtype), x, axes[0][0], log=match["kind"] == "log")


def _axes(value: relax.Expr, rank: int, graph: Graph) -> tuple[int, ...]:
    """Axes of a softmax or a reduction, counted from the front; none means all."""
    axes = graph.bound(value)[1].attrs.axis
    axes = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
    return tuple(sorted(int(axis) % rank for axis in axes))


SOFTMAX = Fusion("softmax", pattern(), accept)
