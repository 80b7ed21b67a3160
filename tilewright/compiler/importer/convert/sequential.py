"""Kernels written as loops where each step needs the ones before.

def write(x: Any, count: Any) -> None:
count[0] = T.int64(0)
with T.serial(0, x.shape[0]) as i, T.If(x[i] != 0), T.Then():
count[0] = count[0] + T.int64(1)

(count,) = sequential(bb, write, [x], lambda x: [([1], "int64")], name="count")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sizes import Size, kernel

# Tensors and sizes -> shapes and data types of the results.
Results = Callable[..., Sequence[tuple[Sequence[Size], str]]]


def sequential(
    bb: relax.BlockBuilder,
    write: Callable[..., None],
    tensors: Sequence[relax.Expr],
    results: Results,
    *sizes: Size,
    name: str,
) -> list[relax.Expr]:
    """What `write` does to the results: it gets the buffers of `tensors` and of the results.

    Sizes that are computed are given as `sizes`; `results` and `write` get them last, as the
    kernel calls them. Statements go to the builder that is open while `write` runs.
    """

    def compute(*given: Any) -> list[te.Tensor]:
        sources, known = list(given[: len(tensors)]), given[len(tensors) :]
        wanted = results(*sources, *known)

        def body(ins: list, outs: list) -> Any:
            with IRBuilder() as builder, T.seq_scope():
                write(*map(T.buffer_proxy, (*ins, *outs)), *known)
            return builder.get()

        shapes, dtypes = [list(shape) for shape, _ in wanted], [dtype for _, dtype in wanted]
        made = te.extern(shapes, sources, body, dtype=dtypes, name=name)
        return list(made) if isinstance(made, list | tuple) else [made]

    found = kernel(bb, compute, *tensors, *sizes, name=name)
    if isinstance(found.ty, relax.TupleType):
        return [bb.emit(relax.TupleGetItem(found, n)) for n in range(len(found.ty.fields))]
    return [found]


def variable(start: Any, dtype: str) -> Any:
    """A number that changes: read and written as element 0."""
    made = T.buffer_proxy(T.alloc_buffer([1], dtype, scope="local"))
    made[0] = start
    return made


def indices(number: tirx.Expr, sizes: Sequence[tirx.Expr]) -> list[tirx.Expr]:
    """The indices of element `number` of what has `sizes`."""
    found: list[tirx.Expr] = []
    for size in reversed(sizes):
        found.insert(0, tirx.floormod(number, size))
        number = tirx.floordiv(number, size)
    return found


def merge_sort(
    order: Any,
    spare: Any,
    along: Callable[[tirx.Expr], tuple[tirx.Expr, ...]],
    count: tirx.Expr,
    precedes: Callable[[tirx.Expr, tirx.Expr], tirx.Expr],
) -> None:
    """Sort the first `count` numbers of a row of `order`; those that are equal stay in order.

    `along` gives the indices of a place in that row. `precedes` is asked about two numbers and may
    write statements. `spare` is as large as `order`.
    """
    width = variable(T.int64(1), "int64")
    with T.While(width[0] < count):
        with T.serial(0, tirx.ceildiv(count, width[0] * 2)) as pair:
            start = tirx.Cast("int64", pair) * width[0] * 2
            middle, end = tirx.min(start + width[0], count), tirx.min(start + width[0] * 2, count)
            left, right = variable(start, "int64"), variable(middle, "int64")
            with T.serial(start, end) as n:
                from_right = variable(T.int64(0), "int64")
                with T.If(left[0] >= middle), T.Then():
                    from_right[0] = T.int64(1)
                with T.If(tirx.all(left[0] < middle, right[0] < end)), T.Then():
                    before = precedes(order[along(right[0])], order[along(left[0])])
                    from_right[0] = tirx.Cast("int64", before)
                with T.If(from_right[0] == 1):
                    with T.Then():
                        spare[along(n)] = order[along(right[0])]
                        right[0] = right[0] + T.int64(1)
                    with T.Else():
                        spare[along(n)] = order[along(left[0])]
                        left[0] = left[0] + T.int64(1)
        with T.serial(0, count) as n:
            order[along(n)] = spare[along(n)]
        width[0] = width[0] * T.int64(2)
