"""Kernels that write in rows what they read in columns: transposes, with what was fused to them.

Before   for i in range(512): for j in range(196): y[i, j] = x[j, i]
After    for i, j in steps of 16:  for j' in range(16): for i' in range(16): y[..] = x[..]

A tile takes whole cache lines both ways. Without it, a line that is read is gone before its next
element is wanted, unless L1 holds the lines that are read in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import Schedule

from tilewright.targets.target import Target

# A cache line, of every x86-64 and of Arm's own cores.
LINE_BYTES = 64
# Lines that a set of L1 holds: 8 of most cores, 12 of Intel's since 2019, 4 of Arm's.
L1_WAYS = 8


def tile_turned(sch: Schedule, block: object, target: Target) -> list:
    """Tile `block`, which has one loop for each axis; the loops around a tile, [] without one."""
    node, loops = sch.get(block), list(sch.get_loops(block))
    extents = [_static(axis.dom.extent) for axis in node.iter_vars]
    written = _steps(node.writes[0], node.iter_vars)
    row = _contiguous(written)
    for read in node.reads:
        steps = _steps(read, node.iter_vars)
        column = _contiguous(steps)
        if None in (row, column) or column >= row or None in extents[column:]:
            continue
        if steps[row] == 0:
            continue  # A table by column: a row reads one number of it.
        bits = max(8, tvm.DataType(read.source.dtype).bits)
        if math.prod(extents[column + 1 :]) <= _lines_held(steps[row], bits, target):
            continue
        inner = {}
        for axis in (row, column):
            loops[axis], inner[axis] = sch.split(loops[axis], [None, LINE_BYTES * 8 // bits])
        sch.reorder(*loops, inner[row], inner[column])
        return loops
    return []


def _lines_held(step: int | None, bits: int, target: Target) -> int:
    """Cache lines that L1 holds of those that lie a step of numbers of `bits` apart.

    A step by a power of two uses a few of its sets only.
    """
    lines = target.l1d_bytes // LINE_BYTES
    if step is None:
        return lines
    step, odd = divmod(step * bits // 8, LINE_BYTES)
    return lines if odd else lines // math.gcd(step, max(1, lines // L1_WAYS))


def _contiguous(steps: list[int | None]) -> int | None:
    """The axis along which neighbours lie side by side."""
    return next((axis for axis, step in reversed(list(enumerate(steps))) if step == 1), None)


def _steps(part: tirx.BufferRegion, axes: Sequence[tirx.IterVar]) -> list[int | None]:
    """How far apart in memory neighbours along each axis are; None where that differs.

    Reshapes that were fused to a transpose cut indices in pieces: they are put together again.
    """
    if any(_static(place.extent) != 1 for place in part.region):
        return [None] * len(axes)
    analyzer = tvm.sym.Analyzer()
    for axis in axes:
        analyzer.bind(axis.var, axis.dom)
    offset: tirx.Expr = tirx.IntImm("int64", 0)
    for place, size in zip(part.region, part.source.shape, strict=True):
        offset = offset * size + place.min
    offset = analyzer.simplify(offset)

    def step(var: tirx.Var) -> int | None:
        beside = tvm_ffi.structural_map(
            offset, (tirx.Var, lambda node: node + 1 if node.same_as(var) else node)
        )
        return _static(analyzer.simplify(beside - offset))

    return [step(axis.var) for axis in axes]


def _static(size: tirx.Expr) -> int | None:
    return int(size.value) if isinstance(size, tirx.IntImm) else None
