"""Kernels that write in rows what they read in columns: transposes, with what was fused to them.

Before   for i in range(512): for j in range(196): y[i, j] = x[j, i]
After    for i, j in steps of 16:  for j' in range(16): for i' in range(16): y[..] = x[..]

A tile takes whole cache lines both ways. Without it, a line that is read is gone before its next
element is wanted, unless L1 holds the lines that are read in between.
"""

from __future__ import annotations

import math

import tvm
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
    variables = [axis.var for axis in node.iter_vars]
    extents = [_static(axis.dom.extent) for axis in node.iter_vars]
    row = _last_axis(variables, node.writes[0])
    for read in node.reads:
        column = _last_axis(variables, read)
        if None in (row, column) or column >= row or None in extents[column:]:
            continue
        bits = max(8, tvm.DataType(read.source.dtype).bits)
        if math.prod(extents[column + 1 :]) <= _lines_held(read, variables[row], bits, target):
            continue
        inner = {}
        for axis in (row, column):
            loops[axis], inner[axis] = sch.split(loops[axis], [None, LINE_BYTES * 8 // bits])
        sch.reorder(*loops, inner[row], inner[column])
        return loops
    return []


def _lines_held(read: tirx.BufferRegion, row: tirx.Var, bits: int, target: Target) -> int:
    """Cache lines that L1 holds of those that lie one step of `row` apart.

    A step by a power of two uses a few of its sets only.
    """
    lines = target.l1d_bytes // LINE_BYTES
    place = _place([part.min for part in read.region], row)
    sizes = [_static(size) for size in read.source.shape]
    if place is None or None in sizes:
        return lines
    step, odd = divmod(math.prod(sizes[place + 1 :]) * bits // 8, LINE_BYTES)
    return lines if odd else lines // math.gcd(step, max(1, lines // L1_WAYS))


def _last_axis(variables: list[tirx.Var], part: tirx.BufferRegion) -> int | None:
    return _place(variables, part.region[-1].min) if part.region else None


def _place(variables: list[tirx.Var], index: tirx.Expr) -> int | None:
    return next((n for n, var in enumerate(variables) if var.same_as(index)), None)


def _static(size: tirx.Expr) -> int | None:
    return int(size.value) if isinstance(size, tirx.IntImm) else None
