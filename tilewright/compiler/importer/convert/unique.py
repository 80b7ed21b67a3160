"""The converter of Unique: equal slices are brought together by a merge sort, which is stable.

Source: https://onnx.ai/onnx/operators/onnx__Unique.html
"""

from __future__ import annotations

import math
from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sequential import merge_sort, sequential, variable
from tilewright.compiler.importer.convert.sizes import Size, kernel, sizes_of


def unique(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Y, where each was first, which one each is, and how often each occurs; since version 11."""
    x, axis = inputs[0], attrs.get("axis", 0)
    if "axis" not in attrs:
        x = bb.emit(relax.op.reshape(x, [-1]))
    axis %= x.ty.ndim
    order = [axis, *(n for n in range(x.ty.ndim) if n != axis)]
    front = bb.emit(relax.op.permute_dims(x, order)) if axis else x
    rows, rest = front.ty.shape[0], math.prod(front.ty.shape.values[1:])
    keys = bb.emit(relax.op.reshape(front, relax.ShapeExpr([rows, rest])))
    in_order = bool(attrs.get("sorted", 1))

    def group(keys: Any, *results: Any) -> None:
        which, first, often, number, order, spare = results
        with T.serial(0, keys.shape[0]) as n:
            order[n] = tirx.Cast("int64", n)
        merge_sort(
            order,
            spare,
            lambda n: (n,),
            keys.shape[0],
            lambda a, b: _compared(keys, a, b)[0][0] == 1,
        )
        _group(keys, order, which, first, often, number)
        if not in_order:
            _by_first(which, first, often, number, order, spare)

    def shapes(keys: te.Tensor) -> list:
        vector = ([keys.shape[0]], "int64")
        return [vector, vector, vector, ([1], "int64"), vector, vector]

    which, first, often, number, *_ = sequential(bb, group, [keys], shapes, name="unique")
    (size,) = sizes_of(bb, number, "unique")

    def some(values: te.Tensor, size: Size) -> te.Tensor:
        return te.compute((size,), lambda n: values[n], name="some")

    first, often = (kernel(bb, some, values, size, name="some") for values in (first, often))
    y = bb.emit(relax.op.take(x, first, axis, mode="fast"))
    results = [y, first, which, often][: attrs["tvm_custom"]["num_outputs"]]
    return results[0] if len(results) == 1 else relax.Tuple(results)


def _compared(keys: Any, one: tirx.Expr, other: tirx.Expr) -> tuple[Any, Any]:
    """Whether a slice is less than another, and whether they differ: 0 or 1. NaN is greatest."""
    a, b = variable(one, "int64"), variable(other, "int64")
    less, differ = variable(T.int64(0), "int64"), variable(T.int64(0), "int64")
    n = variable(T.int64(0), "int64")
    with T.While(tirx.all(n[0] < keys.shape[1], differ[0] == 0)):
        x, y = keys[a[0], n[0]], keys[b[0], n[0]]
        below, above = x < y, y < x
        if str(keys.dtype).startswith("float"):
            below = tirx.any(below, tirx.all(tirx.isnan(y), tirx.Not(tirx.isnan(x))))
            above = tirx.any(above, tirx.all(tirx.isnan(x), tirx.Not(tirx.isnan(y))))
        with T.If(below), T.Then():
            less[0] = T.int64(1)
        with T.If(tirx.any(below, above)), T.Then():
            differ[0] = T.int64(1)
        n[0] = n[0] + T.int64(1)
    return less, differ


def _group(keys: Any, order: Any, which: Any, first: Any, often: Any, number: Any) -> None:
    """Number the groups of equal slices, which stand side by side in `order`."""
    number[0] = T.int64(0)
    with T.serial(0, keys.shape[0]) as n:
        new = variable(T.int64(1), "int64")
        with T.If(n > 0), T.Then():
            _, differ = _compared(keys, order[n - 1], order[n])
            new[0] = differ[0]
        with T.If(new[0] == 1), T.Then():
            first[number[0]] = order[n]
            often[number[0]] = T.int64(0)
            number[0] = number[0] + T.int64(1)
        which[order[n]] = number[0] - 1
        often[number[0] - 1] = often[number[0] - 1] + T.int64(1)


def _by_first(which: Any, first: Any, often: Any, number: Any, place: Any, spare: Any) -> None:
    """Number the groups by where they are first."""
    known = variable(T.int64(0), "int64")
    with T.serial(0, which.shape[0]) as n, T.If(first[which[n]] == n), T.Then():
        place[which[n]] = known[0]
        known[0] = known[0] + T.int64(1)
    with T.serial(0, which.shape[0]) as n:
        which[n] = place[which[n]]
    for values in (first, often):
        with T.serial(0, number[0]) as n:
            spare[place[n]] = values[n]
        with T.serial(0, number[0]) as n:
            values[n] = spare[n]
