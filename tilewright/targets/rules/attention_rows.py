"""Operands and results of an attention that do not lie in rows where they are.

Before   k [batch, heads * d, keys], as convolutions leave it     [batch, heads, d, keys], computed
After    the same with its channels last, k [batch, keys, heads * d]    copied to [.., keys, d]

The kernel reads keys and values, and writes results, whole rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm import tirx
from tvm.tirx import PrimFunc, Stmt

from tilewright.ops import AttentionSpec
from tilewright.ops.attention import Operand, View
from tilewright.ops.spec import Dim, Shape
from tilewright.targets.rules.attention_views import views_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, last
from tilewright.targets.rules.strides import Strided
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Flat,
    Kernel,
    bind_all,
    ceil_div,
    loop,
    worth_threads,
)

# float32 numbers of a cache line: a copy reads and writes as many rows of them at a time.
_TILE = 16


@dataclass(frozen=True)
class Rows:
    """An attention as its kernel can compute it.

    `spec` has views that lie in rows. `sources` says what q, k and v are read from, in that order;
    operands of one argument have the same source. `launches` are the kernels before. `y` is the
    shape of what the kernel writes, which has its channels last, or is to be copied.
    """

    spec: AttentionSpec
    sources: tuple[Given | int, ...]
    launches: tuple[Launch, ...]
    y: Shape
    channels_last: bool
    copied: bool


def in_rows(call: GroupCall) -> Rows:
    """How a kernel can compute `call`. Raises ValueError where an operand has no strides."""
    spec: AttentionSpec = call.spec
    views_of(spec)
    rows, launches = spec, []
    sources: list[Given | int] = []
    readers: dict[tuple[int, bool], Given] = {}
    for role in ("q", "k", "v"):
        operand = getattr(spec, role)
        for channels_last, form in ((False, operand), (True, _of_channels_last(operand))):
            if _is_in_rows(replace(spec, **{role: form}), role):
                rows = replace(rows, **{role: form})
                place = (call.roles[role], channels_last)
                sources.append(readers.setdefault(place, Given(role, channels_last)))
                break
        else:
            rows = replace(rows, **{role: _copied(spec, role)})
            sources.append(len(launches))
            launches.append(_operand_copy(call, rows, role))
    found = rows, tuple(sources), tuple(launches)
    if _is_in_rows(spec, "y"):
        return Rows(*found, call.result.shape, channels_last=False, copied=False)
    order = range(len(call.result.shape))
    y = (*spec.y, ("transpose", (0, *order[2:], 1)))
    if len(order) > 2 and _is_in_rows(last_spec := replace(rows, y=y), "y"):
        found = last_spec, *found[1:]
        return Rows(*found, last(call.result.shape), channels_last=True, copied=False)
    shape = (spec.batch, spec.heads, spec.queries, spec.value_size)
    return Rows(replace(rows, y=()), *found[1:], shape, channels_last=False, copied=True)


def _of_channels_last(operand: Operand) -> Operand:
    """The same, read from its argument with the channels last."""
    rank = len(operand.shape)
    if rank < 3:
        return operand
    back = ("transpose", (0, rank - 1, *range(1, rank - 1)))
    return replace(operand, shape=last(operand.shape), views=(back, *operand.views))


def _is_in_rows(spec: AttentionSpec, role: str) -> bool:
    try:
        view = getattr(views_of(spec), role)
    except ValueError:
        return False  # With its channels last, what was one axis may be several.
    row, column = _AXES[role]
    if role == "q":
        # Queries are packed one number at a time.
        return None not in (view.stride(row), view.stride(column))
    width = spec.head_size if role == "k" else spec.value_size
    return view.stride(row) is not None and (width == 1 or view.stride(column) == 1)


# Which axes are rows and columns, as the two products want them.
_AXES = {"q": (2, 3), "k": (3, 2), "v": (2, 3), "y": (2, 3)}


def _sizes(spec: AttentionSpec, role: str) -> tuple[Dim, int]:
    """How many rows of a head there are, and how long they are."""
    rows = spec.queries if role in ("q", "y") else spec.keys
    return rows, spec.head_size if role in ("q", "k") else spec.value_size


def _copied(spec: AttentionSpec, role: str) -> Operand:
    """What an operand is read from that is copied."""
    views: tuple[View, ...] = (("transpose", (0, 1, 3, 2)),) if role == "k" else ()
    source = getattr(spec, role).source
    return Operand(source, (spec.batch, spec.heads, *_sizes(spec, role)), views)


def _operand_copy(call: GroupCall, rows: AttentionSpec, role: str) -> Launch:
    """The kernel that makes an operand of `rows`."""
    kernel = Kernel(f"{call.name}_{role}")
    given, wanted = getattr(call.spec, role), getattr(rows, role)
    before, after = (views_of(spec, kernel.size) for spec in (call.spec, rows))
    x = kernel.param(given.shape, "float32", role)
    y = kernel.param(wanted.shape, "float32", "y")
    made = _copy(kernel, rows, (x, getattr(before, role)), (y, getattr(after, role)), role)
    return Launch(made, (Given(role),), wanted.shape, "float32")


def result_copy(call: GroupCall, rows: Rows, source: int) -> Launch:
    """The kernel that makes the group's result of what launch number `source` wrote."""
    kernel = Kernel(call.name)
    before, after = (views_of(spec, kernel.size) for spec in (rows.spec, call.spec))
    x = kernel.param(rows.y, "float32", "x")
    y = kernel.param(call.result.shape, "float32", "y")
    made = _copy(kernel, rows.spec, (x, before.y), (y, after.y), "y")
    return Launch(made, (source,), call.result.shape, "float32")


def _copy(
    kernel: Kernel,
    spec: AttentionSpec,
    source: tuple[Flat, Strided],
    target: tuple[Flat, Strided],
    role: str,
) -> PrimFunc:
    """Every row of every head from one view to another."""
    (x, before), (y, after) = source, target
    rows, width = _sizes(spec, role)
    row_axis, column_axis = _AXES[role]
    rows, batch = kernel.size(rows), kernel.size(spec.batch)
    tiles = ceil_div(rows, _TILE)

    def piece(p: tirx.Expr) -> Stmt:
        head, first = tirx.floordiv(p, tiles), tirx.floormod(p, tiles) * _TILE
        b, h = tirx.floordiv(head, spec.heads), tirx.floormod(head, spec.heads)
        starts = [
            view.at(view.offset) + view.place(0, b) + view.place(1, h) for view in (before, after)
        ]

        def tile(x0: tirx.Expr, y0: tirx.Expr, row: tirx.Expr) -> Stmt:
            def move(r: tirx.Expr, column: tirx.Expr) -> Stmt:
                places = [
                    start + view.place(row_axis, row + r) + view.place(column_axis, column)
                    for start, view in ((x0, before), (y0, after))
                ]
                return y.store(places[1], x.load(places[0]))

            whole = isinstance(rows, int) and rows % _TILE == 0
            count = _TILE if whole else tirx.min(rows - row, _TILE)
            return loop(width, lambda c: loop(count, lambda r: move(r, c), "row"), "column")

        return bind_all([*starts, first], ("x0", "y0", "first"), lambda at: tile(*at))

    count = batch * spec.heads
    parallel = worth_threads(count * rows * width, FEWEST_ELEMENTS)
    return kernel.finish(loop(count * tiles, piece, "piece", parallel=parallel))
