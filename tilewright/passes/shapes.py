"""Sizes of Relax values as specs spell them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tvm import relax, tirx
from tvm.tirx import IntImm

from tilewright.ops.spec import Dim, Shape


def shape_of(expr: relax.Expr) -> Shape | None:
    """Sizes of a tensor, symbolic ones as text; None when even the rank is open."""
    shape = getattr(expr.ty, "shape", None)
    if shape is None or not isinstance(shape, relax.ShapeExpr):
        return None
    return tuple(d.value if isinstance(d, IntImm) else _text(d) for d in shape.values)


def _text(size: tirx.Expr) -> str:
    """A symbolic size without the types of its numbers: "n * 2", not "n * T.int64(2)"."""
    return re.sub(r"T\.int\d+\((-?\d+)\)", r"\1", str(size))


def cut_of(call: relax.Call) -> tuple[int, int] | None:
    """Axis and first place, both from the front, of a slice of one axis in steps of one.

    None for a slice of several axes, with another step, or of an axis of open size.
    """
    axes, begins, _, *steps = ([int(v) for v in part.fields] for part in call.args[1:])
    if len(axes) != 1 or any(step != [1] for step in steps):
        return None
    x = shape_of(call.args[0])
    axis = axes[0] % len(x)
    return (axis, begins[0] % x[axis]) if isinstance(x[axis], int) else None


def is_per_channel(expr: relax.Expr, axis: int, size: int, rank: int) -> bool:
    """Whether `expr` holds one value per element of `axis` of a tensor of `rank`, or one in all.

    A constant that broadcasts along another axis is no bias.
    """
    shape = shape_of(expr)
    if shape is None or len(shape) > rank:
        return False
    padded = (1,) * (rank - len(shape)) + shape
    wanted = [1] * rank
    wanted[axis] = size
    return list(padded) in (wanted, [1] * rank)


def is_open(sizes: Sequence[Dim]) -> bool:
    """Whether one of some sizes is not known: kernels for several operators at once want them."""
    return any(not isinstance(size, int) for size in sizes)


OPEN = "its spatial sizes are open"
GIVE_SIZES = "give them with --shape or --dim"
