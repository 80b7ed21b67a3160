"""What lies between two values of a group: views and factors.

For y = transpose(reshape(x[:, :, 0:192]) * 0.125) between x and y: the views
(("slice", (2, 0, 192, 1)), ("reshape", (1, 197, 3, 64)), ("transpose", (0, 2, 1, 3))) and the
factors [0.125].
"""

from __future__ import annotations

import numpy as np
from tvm import relax

from tilewright.ops.attention import View
from tilewright.ops.spec import Dim
from tilewright.passes.pattern import Graph
from tilewright.passes.relax_constants import array_of, is_constant
from tilewright.passes.shapes import shape_of

_TO_A_SHAPE = ("relax.reshape", "relax.expand_dims", "relax.squeeze")


def way(
    expr: relax.Expr, source: relax.Expr, graph: Graph
) -> tuple[tuple[View, ...], list[np.ndarray]]:
    """The views that make `expr` of `source`, first one first, and the constant factors.

    Between them are views, and products and quotients with constants; a factor is what is
    multiplied, in float64.
    """
    views: list[View] = []
    factors: list[np.ndarray] = []
    while not expr.same_as(source):
        _, call = graph.bound(expr)
        if call.op.name in ("relax.multiply", "relax.divide"):
            x, factor = (graph.bound(argument)[1] for argument in call.args)
            second = is_constant(factor)
            number = array_of(factor if second else x).astype(np.float64)
            factors.append(1 / number if call.op.name == "relax.divide" else number)
            expr = call.args[0] if second else call.args[1]
        else:
            views.append(_view(call))
            expr = call.args[0]
    return tuple(reversed(views)), factors


def _view(call: relax.Call) -> View:
    if call.op.name in _TO_A_SHAPE:
        return "reshape", shape_of(call)
    if call.op.name == "relax.broadcast_to":
        return "expand", shape_of(call)
    if call.op.name == "relax.permute_dims":
        axes = call.attrs.axes
        rank = len(shape_of(call))
        return "transpose", tuple(range(rank))[::-1] if axes is None else tuple(map(int, axes))
    shape = shape_of(call.args[0])
    axes, begins, ends = (_numbers(argument) for argument in call.args[1:4])
    strides = _numbers(call.args[4]) if len(call.args) > 4 else (1,) * len(axes)
    rows = zip(axes, begins, ends, strides, strict=True)
    return "slice", tuple(number for row in rows for number in _cut(shape, *row))


def _cut(shape: tuple[Dim, ...], axis: int, begin: Dim, end: Dim, stride: Dim) -> tuple[Dim, ...]:
    """One axis of a slice; counted from the front where the size is known."""
    axis %= len(shape)
    size = shape[axis]
    if isinstance(size, int) and isinstance(begin, int) and isinstance(end, int):
        begin, end = (min(n + size if n < 0 else n, size) for n in (begin, end))
    return axis, begin, end, stride


def _numbers(argument: relax.Expr) -> tuple[Dim, ...]:
    """A tuple of prim values as numbers, and as text where they are open."""
    values = (getattr(field, "value", field) for field in argument.fields)
    return tuple(value if isinstance(value, int) else str(value) for value in values)
