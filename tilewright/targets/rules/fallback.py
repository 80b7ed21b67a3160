"""The schedule of every kernel that no other rule claims: sound everywhere, fast nowhere.

Before   for i, j, k: C[i, j] += A[i, k] * B[k, j];   for i, j: D[i, j] = relu(C[i, j])
After    parallel for i/4, j/16:
             acc[4, 16] = 0                            # registers
             for k: acc[:, :] += A[4i.., k] * B[k, 16j..]
             D[4i.., 16j..] = relu(acc)

A reduction is tiled over the contiguous axis of its result (vector lanes) and over one axis
that reuses the contiguous operand (rows), with the tile in registers and its elementwise
consumer in the store. Everything else runs its outer loops in parallel and leaves the
innermost to LLVM.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import SBlockRealize, Schedule
from tvm.s_tir.schedule import ScheduleError

from tilewright.targets.rules.choices import read_both_sides
from tilewright.targets.rules.expand_math import expand_math
from tilewright.targets.rules.split_loops import split_loops
from tilewright.targets.rules.turned import tile_turned
from tilewright.targets.target import Target

# A parallel launch costs a few microseconds: less work than this stays on one thread.
PARALLEL_ELEMENTS = 16 * 1024
# A row of results this long still fits L1 beside its operands.
MAX_ROW = 2048
# Elements of a row that take less time than two divisions by sizes that only a run tells.
SHORT_ROW = 32
# Expressions of a value that is written out anew at each place where its reader names it. A chain
# of n operators that read their operand twice would have 2^n of them.
MAX_REPEATED = 256
# Sums that wait in L1, and few enough for several pieces of a row.
MAX_STRETCH = 256
_REDUCE = tirx.IterVar.CommReduce
_SPATIAL = tirx.IterVar.DataPar


@dataclass(frozen=True)
class Tile:
    """Axes (by position) and sizes of a reduction's register tile; `row` None for no reuse."""

    column: int
    columns: int
    vectorize: bool
    row: int | None
    rows: int


def schedule_all(mod: tvm.IRModule, target: Target) -> tuple[tvm.IRModule, Counter[str]]:
    """Schedule every kernel of `mod`; also says how many were tiled and how many were not."""
    counts: Counter[str] = Counter()
    mod = mod.clone()
    for var, function in list(mod.functions_items()):
        if isinstance(function, tirx.PrimFunc) and "tilewright.scheduled" not in function.attrs:
            scheduled, kind = schedule(function, target)
            counts[kind] += 1
            mod.update_func(var, expand_math(read_both_sides(split_loops(scheduled))))
    return mod, counts


def schedule(function: tirx.PrimFunc, target: Target) -> tuple[tirx.PrimFunc, str]:
    """Schedule one kernel; the kind is `tiled` when a reduction got a register tile."""
    if not _has_blocks(function) or _is_empty(function):
        return function, "plain"
    sch = Schedule(function, enable_check=False)
    _inline_elementwise(sch)
    kind = "plain"
    done: set[str] = set()
    for name in [_name(sch, block) for block in _leaves(sch)]:
        if name in done:
            continue
        block = sch.get_sblock(name)
        if _is_reduction(sch, block) and (tile := choose_tile(sch, block, target)):
            attempt = sch.copy()
            try:
                done |= _apply_tile(attempt, attempt.get_sblock(name), tile, target)
                sch, kind = attempt, "tiled"
                continue
            except ScheduleError:
                pass  # Not a nest this tile fits; the plain schedule below always does.
        _schedule_plain(sch, sch.get_sblock(name), target)
    return sch.mod["main"].with_attrs(function.attrs), kind


def _has_blocks(function: tirx.PrimFunc) -> bool:
    """Whether its loops are told by blocks; what TVM writes by hand (Scatter) has none."""
    body = function.body
    return isinstance(body, SBlockRealize) and body.block.name_hint == "root"


def _is_empty(function: tirx.PrimFunc) -> bool:
    """Whether a tensor without elements is read or written: there is nothing to split."""
    return any(0 in map(_static, getattr(p, "shape", ())) for p in function.params)


def choose_tile(sch: Schedule, block: object, target: Target) -> Tile | None:
    """A tile that fits the target's registers, None when the shape gives nothing to tile."""
    node = sch.get(block)
    if len(node.writes) != 1:
        return None
    extents = [_static(axis.dom.extent) for axis in node.iter_vars]
    spatial = [n for n, axis in enumerate(node.iter_vars) if axis.iter_type == _SPATIAL]
    column = next((n for n in reversed(spatial) if extents[n] != 1), None)
    if column is None or extents[column] is None:
        return None
    var = node.iter_vars[column].var
    operand = next((r for r in node.reads if _varies(r.region[-1].min, var)), None)
    lanes = target.vector_bits // 32
    if operand is None:
        return Tile(column, _divisor(extents[column], 8), vectorize=False, row=None, rows=1)
    # What is read once is read along its rows; the sums of a stretch wait in L1 meanwhile.
    once = len(node.reads) == 1 and len(spatial) + 1 >= len(operand.region)
    columns = (once and stretch(extents[column], lanes)) or best_columns(extents[column], lanes)
    if columns is None:
        return None
    reusing = [
        n
        for n in spatial
        if n != column
        and extents[n] not in (None, 1)
        and not any(_varies(part.min, node.iter_vars[n].var) for part in operand.region)
    ]
    row = max(reusing, key=lambda n: extents[n], default=None)
    # Accumulators take all registers but the operands: two vectors of columns, one broadcast.
    vectors = -(-columns // lanes)
    most_rows = max(1, (target.vector_registers - vectors - 1) // vectors)
    rows = _divisor(extents[row], min(most_rows, 6)) if row is not None else 1
    return Tile(column, columns, vectorize=True, row=row, rows=rows)


def best_columns(extent: int, lanes: int) -> int | None:
    """Tile size for `extent` with the fewest vector operations per element.

    A vector of 14 floats costs the pieces 8 + 4 + 2. Where no divisor is worth it (primes),
    the whole row is one tile as long as it is short.
    """
    sizes = [size for size in range(min(4, extent), 2 * lanes + 1) if extent % size == 0]
    if not sizes:
        return extent if extent <= MAX_ROW else None
    pieces = {size: (size // lanes + (size % lanes).bit_count()) / size for size in sizes}
    return min(sizes, key=lambda size: (pieces[size], -size))


def stretch(extent: int, lanes: int) -> int | None:
    """The widest part of a row of `extent`, in whole vectors; None where two vectors do as well."""
    sizes = range(2 * lanes, min(extent, MAX_STRETCH) + 1, lanes)
    return max((size for size in sizes if extent % size == 0), default=None)


def _apply_tile(sch: Schedule, block: object, tile: Tile, target: Target) -> set[str]:
    """Tile `block` and its consumer; returns the names of the blocks that are done."""
    consumer = _elementwise_consumer(sch, block) or sch.cache_write(block, 0, "local")
    if sch.get(block).writes[0].source.scope() != "local":
        sch.set_scope(block, 0, "local")
    loops = list(sch.get_loops(consumer))
    outer_column, inner_column = sch.split(loops[tile.column], [None, tile.columns])
    outer = [loop for n, loop in enumerate(loops) if n != tile.column]
    inner = [inner_column]
    if tile.row is not None:
        outer_row, inner_row = sch.split(loops[tile.row], [None, tile.rows])
        outer[tile.row] = outer_row
        inner.insert(0, inner_row)
    sch.reorder(*outer, outer_column, *inner)
    sch.compute_at(block, outer_column, preserve_unit_loops=True)
    nest = list(sch.get_loops(block)[len(outer) + 1 :])
    spatial, reduction = nest[: len(loops)], nest[len(loops) :]
    tiled = [spatial[n] for n in (tile.row, tile.column) if n is not None]
    unit = [loop for n, loop in enumerate(spatial) if n not in (tile.row, tile.column)]
    sch.reorder(*reduction, *unit, *tiled)
    # All before the split into start and update: a lone update counts as no reduction.
    sch.parallel(sch.fuse(*outer) if len(outer) > 1 else (outer or [outer_column])[0])
    lanes = target.vector_bits // 32
    if tile.vectorize:
        _vectorize(sch, tiled, tile.columns, lanes)
        _vectorize(sch, inner, tile.columns, lanes)
    start = sch.decompose_reduction(block, reduction[0])
    if tile.vectorize and tile.columns <= 2 * lanes:
        sch.vectorize(sch.get_loops(start)[-1])
    return {_name(sch, block), _name(sch, start), _name(sch, consumer)}


def _vectorize(sch: Schedule, loops: list, columns: int, lanes: int) -> None:
    """Vectors over the last of the tile's `loops`, of one register each; unroll the others."""
    *rows, column = loops
    if columns > 2 * lanes:
        # Of a whole row LLVM's own loop vectoriser handles the tail.
        if columns % lanes == 0:
            sch.vectorize(sch.split(column, [None, lanes])[1])
        return
    if columns > lanes and columns % lanes == 0:
        pieces, column = sch.split(column, [None, lanes])
        sch.reorder(pieces, *rows, column)
        rows.insert(0, pieces)
    sch.vectorize(column)
    for loop in rows:
        sch.unroll(loop)


def _inline_elementwise(sch: Schedule) -> None:
    """Inline elementwise blocks into their one elementwise reader, and copies into any.

    What is shared out between several, as by a split, is inlined into each.
    """
    for block in _leaves(sch):
        readers = sch.get_consumers(block)
        if _is_reduction(sch, block) or not readers:
            continue
        if len(readers) > 1 and not _is_shared_out(sch, block, readers):
            continue
        if _is_reduction(sch, readers[0]) and not _is_copy(sch, block):
            continue  # A reduction reads each value many times: compute it once, before.
        if any(_repeated(sch, block, reader) > MAX_REPEATED for reader in readers):
            continue
        try:
            sch.compute_inline(block)
        except ScheduleError:
            continue  # It writes more than it is read for, or is an output itself.


def _is_shared_out(sch: Schedule, block: object, readers: Sequence[object]) -> bool:
    """Whether a copy is read by copies that have no more elements than it together."""
    if not all(_is_copy(sch, one) for one in (block, *readers)):
        return False
    sizes = [[_static(axis.dom.extent) for axis in sch.get(r).iter_vars] for r in (block, *readers)]
    if any(None in size for size in sizes):
        return False
    whole, *parts = map(math.prod, sizes)
    return sum(parts) <= whole


def _repeated(sch: Schedule, block: object, reader: object) -> int:
    """Expressions that inlining `block` adds to its reader beyond those of one copy."""
    written = sch.get(block).writes[0].source
    reads = expressions = 0

    def read(load: TensorLoad) -> None:
        nonlocal reads
        reads += load.source.same_as(written)

    def count(node: object) -> None:
        nonlocal expressions
        expressions += 1

    tvm_ffi.structural_walk(sch.get(reader).body, (TensorLoad, read))
    tvm_ffi.structural_walk(sch.get(block).body, (tirx.Expr, count))
    return (reads - 1) * expressions


def _elementwise_consumer(sch: Schedule, block: object) -> object | None:
    """The one reader of `block`, if its loops run over the very elements `block` writes."""
    readers = sch.get_consumers(block)
    if len(readers) != 1 or _is_reduction(sch, readers[0]):
        return None
    written, reader = sch.get(block).writes[0].source, sch.get(readers[0])
    if len(reader.writes) != 1 or len(sch.get_loops(readers[0])) != len(written.shape):
        return None
    reads = [region for region in reader.reads if region.source.same_as(written)]
    variables = [axis.var for axis in reader.iter_vars]
    for region in reads:
        for part, var, size in zip(region.region, variables, written.shape, strict=True):
            unit = _static(size) == 1 and _static(part.min) == 0
            if not (part.min.same_as(var) or unit):
                return None
    domain = [_static(axis.dom.extent) for axis in reader.iter_vars]
    return readers[0] if domain == [_static(size) for size in written.shape] else None


def _schedule_plain(sch: Schedule, block: object, target: Target) -> None:
    """Run the outer loops in parallel, if there is enough work."""
    axes = sch.get(block).iter_vars
    loops = sch.get_loops(block)
    if len(loops) != len(axes) or not loops:
        return
    spatial = 0
    while spatial < len(axes) and axes[spatial].iter_type == _SPATIAL:
        spatial += 1
    work = 1
    for axis in axes:
        work *= _static(axis.dom.extent) or PARALLEL_ELEMENTS
    outer = loops[:spatial]
    if spatial == len(axes):
        outer = tile_turned(sch, block, target) or _apart(sch, loops)
    if work >= PARALLEL_ELEMENTS and outer:
        sch.parallel(_joined(sch, outer))


def _joined(sch: Schedule, loops: list) -> tvm.s_tir.schedule.LoopRV:
    """`loops` as one; the first of them where TVM cannot tell their indices apart again.

    It fails on open sizes of which one is another times a number, such as w + 3 and 5 * w + 15.
    """
    if len(loops) == 1:
        return loops[0]
    try:
        return sch.fuse(*loops)
    except tvm.error.InternalError:
        return loops[0]


def _apart(sch: Schedule, loops: list) -> list:
    """The loops that run in parallel as one: all but the innermost.

    Where the one beside it is open too, telling their indices apart takes divisions, which take
    longer than a short innermost loop: then that one stays outside.
    """
    outer, extents = loops[:-1], [_static(sch.get(loop).extent) for loop in loops]
    short = extents[-1] is not None and extents[-1] < SHORT_ROW
    return outer[:-1] if short and len(outer) > 2 and None in extents[1:-1] else outer


def _leaves(sch: Schedule) -> list:
    return sch.get_child_blocks(sch.get_sblock("root"))


def _name(sch: Schedule, block: object) -> str:
    return sch.get(block).name_hint


def _is_reduction(sch: Schedule, block: object) -> bool:
    return any(axis.iter_type == _REDUCE for axis in sch.get(block).iter_vars)


def _is_copy(sch: Schedule, block: object) -> bool:
    body = sch.get(block).body
    return isinstance(body, tirx.BufferStore) and isinstance(body.value, TensorLoad)


def _static(size: tirx.Expr) -> int | None:
    return int(size.value) if isinstance(size, tirx.IntImm) else None


def _varies(index: tirx.Expr, var: tirx.Var) -> bool:
    return any(used.same_as(var) for used in tirx.analysis.undefined_vars(index))


def _divisor(extent: int, most: int) -> int:
    return next(size for size in range(min(extent, most), 0, -1) if extent % size == 0)
