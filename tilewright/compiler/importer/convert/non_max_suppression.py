"""The converter of NonMaxSuppression: how many boxes it selects is only known afterwards.

For each batch and class the boxes are sorted, best first. One after the other is selected, unless
it overlaps one that has been, too much. The boxes of a class stand in one row, the selected ones in
front.
Source: https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, tirx
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sequential import merge_sort, sequential, variable
from tilewright.compiler.importer.convert.sizes import as_int64, sizes_of

# The lower and the upper end of a box along both axes.
_Ends = tuple[tuple[tirx.Expr, tirx.Expr], tuple[tirx.Expr, tirx.Expr]]


def non_max_suppression(
    bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int
) -> relax.Expr:
    """The selected [batch, class, box]: one class after the other, best first; since version 10."""
    boxes, scores, most, overlap, least = [*inputs, None, None, None][:5]
    given = [boxes, scores]
    given.append(_number(bb, np.int64(0)) if most is None else as_int64(bb, _number(bb, most)))
    given.append(_number(bb, np.float32(0) if overlap is None else overlap))
    given += [] if least is None else [_number(bb, least)]
    read = _centred if attrs.get("center_point_box", 0) else _cornered

    def select(boxes: Any, scores: Any, most: Any, overlap: Any, *rest: Any) -> None:
        *least, rows, counts, spare = rest
        classes, count = scores.shape[1:]
        with T.parallel(0, counts.shape[0]) as row:
            batch, kind = row // classes, row % classes
            left = variable(T.int64(0), "int64")
            with T.serial(0, count) as box:
                good = scores[batch, kind, box] > least[0][0] if least else T.bool(True)
                with T.If(good), T.Then():
                    rows[row, left[0]] = tirx.Cast("int64", box)
                    left[0] = left[0] + T.int64(1)
            # Of equal ones, the first box comes first.
            score = lambda box: scores[batch, kind, box]  # noqa: E731
            merge_sort(rows, spare, lambda n: (row, n), left[0], lambda a, b: score(a) > score(b))
            chosen, n = variable(T.int64(0), "int64"), variable(T.int64(0), "int64")
            with T.While(tirx.all(n[0] < left[0], chosen[0] < most[0])):
                _select(rows, row, n, chosen, lambda box: read(boxes, batch, box), overlap[0])
            counts[row] = chosen[0]

    def shapes(_boxes: Any, scores: Any, *_limits: Any) -> list:
        rows = scores.shape[0] * scores.shape[1]
        boxes_of = ([rows, scores.shape[2]], "int64")
        return [boxes_of, ([rows], "int64"), boxes_of]

    rows, counts, _ = sequential(bb, select, given, shapes, name="non_max_suppression")
    total = bb.emit(relax.op.sum(counts, 0, keepdims=True))
    (size,) = sizes_of(bb, total, "selected")

    def collect(scores: Any, rows: Any, counts: Any, result: Any, _size: Any) -> None:
        classes, done = scores.shape[1], variable(T.int64(0), "int64")
        with T.serial(0, counts.shape[0]) as row:
            with T.serial(0, counts[row]) as n:
                for place, value in enumerate((row // classes, row % classes, rows[row, n])):
                    result[done[0] + n, place] = tirx.Cast("int64", value)
            done[0] = done[0] + counts[row]

    given = [scores, rows, counts]
    (found,) = sequential(
        bb, collect, given, lambda *known: [([known[-1], 3], "int64")], size, name="selected"
    )
    return found


def _number(bb: relax.BlockBuilder, value: relax.Expr | np.generic) -> relax.Expr:
    """A limit as a vector of one number."""
    if isinstance(value, np.generic):
        return relax.const(value.reshape(1), str(value.dtype))
    return bb.emit(relax.op.reshape(value, [1]))


def _select(
    rows: Any,
    row: tirx.Var,
    n: Any,
    chosen: Any,
    ends: Callable[[tirx.Expr], _Ends],
    most: tirx.Expr,
) -> None:
    """Look at box n: put it behind the chosen ones, unless it overlaps one by more than `most`."""
    box = variable(rows[row, n[0]], "int64")
    own, other = _kept(ends(box[0])), variable(T.int64(0), "int64")
    free = variable(T.int64(1), "int64")
    with T.While(tirx.all(free[0] == 1, other[0] < chosen[0])):
        with T.If(_overlaps(ends(rows[row, other[0]]), own, most)), T.Then():
            free[0] = T.int64(0)
        other[0] = other[0] + T.int64(1)
    with T.If(free[0] == 1), T.Then():
        rows[row, chosen[0]] = box[0]
        chosen[0] = chosen[0] + T.int64(1)
    n[0] = n[0] + T.int64(1)


def _kept(ends: _Ends) -> _Ends:
    """The same numbers, read once."""
    (a, b), (c, d) = (tuple(variable(x, "float32")[0] for x in pair) for pair in ends)
    return (a, b), (c, d)


def _overlaps(one: _Ends, other: _Ends, most: tirx.Expr) -> tirx.Expr:
    """Whether the shared part of two boxes is more than `most` of what they cover together."""
    zero = T.float32(0)
    shared, own = T.float32(1), [T.float32(1), T.float32(1)]
    meet = T.bool(True)
    for (a, b), (c, d) in zip(one, other, strict=True):
        along = tirx.min(b, d) - tirx.max(a, c)
        meet = tirx.all(meet, along > zero)
        shared, own = shared * along, [own[0] * (b - a), own[1] * (d - c)]
    whole = own[0] + own[1] - shared
    solid = tirx.all(own[0] > zero, own[1] > zero, whole > zero)
    return tirx.all(meet, solid, shared / whole > most)


def _cornered(boxes: Any, batch: tirx.Expr, box: tirx.Expr) -> _Ends:
    """Of [y1, x1, y2, x2], any two opposite corners."""
    y1, x1, y2, x2 = (boxes[batch, box, n] for n in range(4))
    return (tirx.min(y1, y2), tirx.max(y1, y2)), (tirx.min(x1, x2), tirx.max(x1, x2))


def _centred(boxes: Any, batch: tirx.Expr, box: tirx.Expr) -> _Ends:
    """Of [x, y, width, height], (x, y) the centre."""
    x, y, width, height = (boxes[batch, box, n] for n in range(4))
    half = T.float32(0.5)
    return (y - height * half, y + height * half), (x - width * half, x + width * half)
