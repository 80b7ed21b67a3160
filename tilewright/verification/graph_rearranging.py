"""Rows of operators for random graphs: what moves, cuts, joins, repeats and looks up values."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from tilewright.verification.graph_builder import Builder, Value
from tilewright.verification.graph_operators import (
    Draw,
    Operator,
    axis_of,
    between,
    chance,
    one_of,
    scalar,
    small,
)


def _kept(net: Builder, op: str, x: Value, *others: Value | None, **attributes: object) -> Value:
    """A node that moves numbers and changes none."""
    return net.add(op, x, *others, exact=x.exact, degree=x.degree, **attributes)


def _transpose(draw: Draw, net: Builder, x: Value) -> Value:
    return _kept(net, "Transpose", x, perm=draw(st.permutations(range(x.rank))))


def _reshape(draw: Draw, net: Builder, x: Value) -> Value:
    """Neighbouring axes become one, or a fixed axis becomes two."""
    sizes: list[int] = [0 if isinstance(size, str) else size for size in x.shape]
    fixed = [axis for axis in range(x.rank) if x.fixed(axis) and x.shape[axis] > 1]
    if x.rank > 1 and (not fixed or chance(draw)):
        axis = between(draw, 0, x.rank - 2)
        # A 0 copies the size at its own place, which merging moves: only those before may stay 0.
        if all(x.fixed(a) for a in range(axis + 2, x.rank)):
            return _kept(net, "Reshape", x, net.ints(*sizes[:axis], -1, *sizes[axis + 2 :]))
        return _kept(net, "Flatten", x, axis=axis_of(draw, x))
    if not fixed:
        return _kept(net, "Reshape", x, net.ints(-1))
    axis = one_of(draw, *fixed)
    size = x.shape[axis]
    part = one_of(draw, *(n for n in range(1, size + 1) if size % n == 0))
    if not all(x.fixed(a) for a in range(axis + 1, x.rank)):
        return _kept(net, "Unsqueeze", x, net.ints(axis))
    return _kept(net, "Reshape", x, net.ints(*sizes[:axis], part, size // part, *sizes[axis + 1 :]))


def _flatten(draw: Draw, net: Builder, x: Value) -> Value:
    return _kept(net, "Flatten", x, axis=between(draw, 0, x.rank))


def _computed_reshape(draw: Draw, net: Builder, x: Value) -> Value:
    """As exporters write it: some sizes are taken from the shape of x, one is left to find."""
    shape = net.add("Shape", x, exact=True, degree=0)
    kept = between(draw, 1, x.rank - 1)
    sizes = [net.add("Gather", shape, net.ints(a), exact=True, degree=0) for a in range(kept)]
    target = net.add("Concat", *sizes, net.ints(-1), axis=0, exact=True, degree=0)
    for value in (shape, *sizes, target):
        # They stay what they are: sizes.
        net.values.remove(value)
    return _kept(net, "Reshape", x, target)


def _unsqueeze(draw: Draw, net: Builder, x: Value) -> Value:
    return _kept(net, "Unsqueeze", x, net.ints(between(draw, -x.rank - 1, x.rank)))


def _squeeze(draw: Draw, net: Builder, x: Value) -> Value:
    return _kept(net, "Squeeze", x, net.ints(one_of(draw, *_ones(x))))


def _ones(x: Value) -> list[int]:
    return [axis for axis, size in enumerate(x.shape) if size == 1]


def _expand(draw: Draw, net: Builder, x: Value) -> Value:
    sizes = [3 if size == 1 and chance(draw) else 1 for size in x.shape]
    more = [between(draw, 1, 2)] if x.rank < 4 and chance(draw) else []
    return _kept(net, "Expand", x, net.ints(*more, *sizes))


def _tile(draw: Draw, net: Builder, x: Value) -> Value:
    axis = between(draw, 0, x.rank - 1)
    return _kept(net, "Tile", x, net.ints(*(3 if a == axis else 1 for a in range(x.rank))))


def _concat(draw: Draw, net: Builder, x: Value) -> Value:
    axis = between(draw, 0, x.rank - 1)
    others = [
        v
        for v in net.values
        if v.dtype == x.dtype and v.rank == x.rank and small(v) and _alike(v, x, axis)
    ]
    parts = [x, *(one_of(draw, *reversed(others)) for _ in range(between(draw, 1, 3)))]
    parts = draw(st.permutations(parts))
    degree = max(part.degree for part in parts)
    exact = all(part.exact for part in parts)
    negative = axis - x.rank if chance(draw) else axis
    return net.add("Concat", *parts, axis=negative, exact=exact, degree=degree)


def _alike(a: Value, b: Value, axis: int) -> bool:
    pairs = zip(a.shape, b.shape, strict=True)
    return all(m == n for place, (m, n) in enumerate(pairs) if place != axis)


def _split(draw: Draw, net: Builder, x: Value) -> Value:
    axis = one_of(draw, *_longer(x))
    size = x.shape[axis]
    if size % 2 == 0 and chance(draw):
        return net.add(
            "Split", x, outputs=2, axis=axis, num_outputs=2, exact=x.exact, keep=between(draw, 0, 1)
        )
    first = between(draw, 1, size - 1)
    parts = net.ints(first, size - first)
    return net.add("Split", x, parts, outputs=2, axis=axis, exact=x.exact, keep=between(draw, 0, 1))


def _longer(x: Value) -> list[int]:
    return [axis for axis, size in enumerate(x.shape) if isinstance(size, int) and size > 1]


def _slice(draw: Draw, net: Builder, x: Value) -> Value:
    axis = between(draw, 0, x.rank - 1)
    size = x.shape[axis]
    if isinstance(size, str):
        # Legal at every size from 1 on.
        start, end, step = one_of(
            draw, (0, 1, 1), (-1, 2**31, 1), (-1, -(2**31), -1), (0, 2**31, 2)
        )
    else:
        start = between(draw, 0, size - 1)
        end, step = between(draw, start + 1, size + 2), between(draw, 1, 3)
        if chance(draw):
            start, end, step = size - 1, -size - 1, -step
    return _kept(net, "Slice", x, *(net.ints(n) for n in (start, end, axis, step)))


def _pad(draw: Draw, net: Builder, x: Value) -> Value:
    mode = one_of(draw, "constant", "edge", "reflect", "wrap")
    room = [size - 1 if isinstance(size, int) else 0 for size in x.shape]
    most = [2 if mode in ("constant", "edge") else min(2, n) for n in room]
    if x.rank > 2:
        most[0] = 0
    pads = [between(draw, 0, n) for n in (*most, *most)]
    value = [scalar(net, one_of(draw, 0.0, 1.5), x)] if mode == "constant" and chance(draw) else []
    return _kept(net, "Pad", x, net.ints(*pads), *value, mode=mode)


def _gather(draw: Draw, net: Builder, x: Value) -> Value:
    axis = one_of(draw, *_fixed(x))
    size = x.shape[axis]
    indices = [between(draw, -size, size - 1) for _ in range(between(draw, 1, 4))]
    found = net.constant(indices[0], "int64") if chance(draw) else net.ints(*indices)
    if len(indices) == 4 and chance(draw):
        found = net.constant([indices[:2], indices[2:]], "int64")
    return _kept(net, "Gather", x, found, axis=axis)


def _fixed(x: Value) -> list[int]:
    return [axis for axis in range(x.rank) if x.fixed(axis) and x.shape[axis] > 0]


def _gather_elements(draw: Draw, net: Builder, x: Value) -> Value:
    axis = between(draw, 0, x.rank - 1)
    size = x.shape[axis]
    rows = between(draw, 1, 4)
    shape = [rows if place == axis else n for place, n in enumerate(x.shape)]
    drawn = [between(draw, -size, size - 1) for _ in range(min(math.prod(shape), 7))]
    flat = net.constant(np.resize(drawn, shape), "int64")
    return _kept(net, "GatherElements", x, flat, axis=axis)


def _embedding(draw: Draw, net: Builder, ids: Value) -> Value:
    table = net.weight("float32", between(draw, 2, 9), one_of(draw, 4, 3, 8, 16))
    return net.add("Gather", table, ids, degree=1)


def _depth_to_space(draw: Draw, net: Builder, x: Value) -> Value:
    return _kept(net, "DepthToSpace", x, blocksize=2, mode=one_of(draw, "DCR", "CRD"))


def _space_to_depth(draw: Draw, net: Builder, x: Value) -> Value:
    return _kept(net, "SpaceToDepth", x, blocksize=2)


def _trilu(draw: Draw, net: Builder, x: Value) -> Value:
    diagonal = net.constant(between(draw, -1, 1), "int64")
    return _kept(net, "Trilu", x, diagonal, upper=between(draw, 0, 1))


def _divisible(x: Value, axes: tuple[int, ...], by: int) -> bool:
    return x.rank == 4 and all(x.fixed(a) and x.shape[a] % by == 0 for a in axes)


def _vector(x: Value) -> bool:
    return x.rank > 0 and (x.floats or x.dtype == "int64")


def _all_fixed(x: Value) -> bool:
    return x.rank > 0 and len(_fixed(x)) == x.rank


REARRANGING = (
    Operator("Reshape", _vector, _reshape),
    Operator("Transpose", lambda x: x.rank > 1, _transpose),
    Operator("Flatten", _vector, _flatten),
    Operator("Unsqueeze", lambda x: x.rank < 5, _unsqueeze),
    Operator("Squeeze", lambda x: bool(_ones(x)), _squeeze),
    Operator("Concat", lambda x: _vector(x) and small(x), _concat),
    Operator("Split", lambda x: _vector(x) and bool(_longer(x)), _split),
    Operator("Slice", _vector, _slice),
    Operator("Pad", lambda x: x.floats and x.rank > 0 and small(x), _pad),
    Operator("Expand", lambda x: _vector(x) and small(x), _expand),
    Operator("Tile", lambda x: _vector(x) and small(x), _tile),
    Operator("Gather", lambda x: _vector(x) and bool(_fixed(x)) and small(x), _gather),
    Operator("GatherElements", lambda x: x.floats and _all_fixed(x) and small(x), _gather_elements),
    Operator("embedding", lambda x: x.dtype == "int64" and x.name.startswith("x"), _embedding),
    Operator("DepthToSpace", lambda x: x.floats and _divisible(x, (1,), 4), _depth_to_space),
    Operator("SpaceToDepth", lambda x: x.floats and _divisible(x, (2, 3), 2), _space_to_depth),
    Operator("Trilu", lambda x: x.floats and x.rank > 1, _trilu),
    Operator("computed_reshape", lambda x: x.floats and x.rank > 1, _computed_reshape),
)
