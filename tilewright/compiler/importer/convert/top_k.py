"""The converter of TopK: the best of each row, in order.

Few are found in one pass that keeps the best so far in order; more, of many, in one that keeps what
is better than the worst of the best at the last sort; others, or a number that is computed, by a
merge sort of all. All leave equal elements in the order of their places, as ONNX Runtime does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sequential import (
    indices,
    merge_sort,
    sequential,
    variable,
)
from tilewright.compiler.importer.convert.sizes import Size, as_int64, sizes_of
from tilewright.errors import ModelError

# Up to here keeping them costs less than sorting all, but for rows that are nearly in order.
FEW = 64
# Of so many times as many it is rare that one is among the best.
MANY_TIMES = 4
_ONE = tirx.IntImm("int64", 1)
_TOO_MANY = "TopK asks for more elements than there are"


def top_k(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """TopK; k is an attribute before version 10."""
    x = inputs[0]
    axis = attrs.get("axis", -1) % x.ty.ndim
    k = attrs["k"] if opset < 10 else sizes_of(bb, as_int64(bb, inputs[1]), "k")[0]
    size = x.ty.shape[axis]
    if isinstance(k, int) and isinstance(size, tirx.IntImm) and not 0 <= k <= size.value:
        raise ModelError(f"{_TOO_MANY}: {k} of {size.value}", expected=f"0 to {size.value}")
    largest = bool(attrs.get("largest", 1))
    write = _way(k, size)

    def body(x: Any, values: Any, places: Any, *rest: Any) -> None:
        def better(one: tirx.Expr, other: tirx.Expr) -> tirx.Expr:
            return one > other if largest else one < other

        if not isinstance(k, int):
            with T.Assert(values.shape[axis] <= x.shape[axis], _TOO_MANY, "ValueError"):
                pass
        others = [own for n, own in enumerate(x.shape) if n != axis]
        with T.parallel(0, math.prod(others, start=_ONE)) as row:
            at = indices(row, others)

            def along(place: tirx.Expr) -> tuple[tirx.Expr, ...]:
                return (*at[:axis], place, *at[axis:])

            write(x, values, places, *rest, axis=axis, along=along, better=better)

    def results(x: te.Tensor, *sizes: Size) -> list[tuple[Sequence[Size], str]]:
        (count,) = sizes or (k,)
        shape = [count if n == axis else own for n, own in enumerate(x.shape)]
        spare = [] if write is _select else [(list(x.shape), "int64")] * 2
        return [(shape, x.dtype), (shape, "int64"), *spare]

    sizes = () if isinstance(k, int) else (k,)
    values, places, *_ = sequential(bb, body, [x], results, *sizes, name="top_k")
    return relax.Tuple([values, places])


def _way(k: Size, size: tirx.Expr) -> Callable[..., None]:
    if isinstance(k, int) and 0 < k <= FEW:
        return _select
    known = isinstance(k, int) and isinstance(size, tirx.IntImm)
    return _keep if known and 0 < k * MANY_TIMES <= size.value else _sort


def _select(x: Any, values: Any, places: Any, *, axis: int, along: Any, better: Any) -> None:
    """Put each element among the best so far, where it is one of them."""
    k = values.shape[axis]
    with T.serial(0, x.shape[axis]) as n:
        found = variable(x[along(n)], str(x.dtype))
        to = variable(tirx.min(tirx.Cast("int64", n), k), "int64")
        with T.If(to[0] == k), T.Then():
            # Not one of them, most of the time.
            to[0] = tirx.Select(better(found[0], values[along(k - 1)]), k - 1, k)
        with T.If(to[0] < k), T.Then():
            moving = variable(T.int64(1), "int64")
            with T.While(tirx.all(to[0] > 0, moving[0] == 1)):
                moving[0] = tirx.Cast("int64", better(found[0], values[along(to[0] - 1)]))
                with T.If(moving[0] == 1), T.Then():
                    values[along(to[0])] = values[along(to[0] - 1)]
                    places[along(to[0])] = places[along(to[0] - 1)]
                    to[0] = to[0] - T.int64(1)
            values[along(to[0])] = found[0]
            places[along(to[0])] = tirx.Cast("int64", n)


def _keep(
    x: Any,
    values: Any,
    places: Any,
    order: Any,
    spare: Any,
    *,
    axis: int,
    along: Any,
    better: Any,
) -> None:
    """Keep the places of twice as many, sort those and drop the worse half, again and again."""
    k = values.shape[axis]
    before = lambda a, b: better(x[along(a)], x[along(b)])  # noqa: E731
    held, bounded = variable(T.int64(0), "int64"), variable(T.int64(0), "int64")
    worst = variable(x[along(T.int64(0))], str(x.dtype))
    with T.serial(0, x.shape[axis]) as n:
        order[along(held[0])] = tirx.Cast("int64", n)
        # Where it is not kept, the next one takes its place.
        keeps = tirx.any(bounded[0] == 0, better(x[along(n)], worst[0]))
        held[0] = held[0] + tirx.Cast("int64", keeps)
        with T.If(held[0] == 2 * k), T.Then():
            merge_sort(order, spare, along, 2 * k, before)
            held[0] = k
            bounded[0] = T.int64(1)
            worst[0] = x[along(order[along(k - 1)])]
    merge_sort(order, spare, along, held[0], before)
    _take(x, values, places, order, axis, along)


def _sort(
    x: Any,
    values: Any,
    places: Any,
    order: Any,
    spare: Any,
    *sizes: Size,
    axis: int,
    along: Any,
    better: Any,
) -> None:
    """Sort the places of all, and take the first."""
    with T.serial(0, x.shape[axis]) as n:
        order[along(n)] = tirx.Cast("int64", n)
    merge_sort(order, spare, along, x.shape[axis], lambda a, b: better(x[along(a)], x[along(b)]))
    _take(x, values, places, order, axis, along)


def _take(x: Any, values: Any, places: Any, order: Any, axis: int, along: Any) -> None:
    """Write the first of what is sorted."""
    with T.serial(0, values.shape[axis]) as n:
        values[along(n)] = x[along(order[along(n)])]
        places[along(n)] = order[along(n)]
