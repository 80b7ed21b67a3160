"""Loops over what comes from several places, split where one place ends.

Before   for c in range(96): y[c] = relu(if_then_else(c < 64, a[c], b[c - 64]))
After    for c in range(64): y[c] = relu(a[c]);   for c in range(32): y[c + 64] = relu(b[c])

A concat of many is a chain of comparisons for each element, which LLVM does not vectorise: it took
half of the time of a DenseNet.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize
from tvm.tirx import For, ForKind, IntImm, Stmt

from tilewright.targets.rules.tir import seq

# With fewer elements a loop is mostly its own overhead.
SHORTEST = 4


def split_loops(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Split the innermost loops of a scheduled kernel at the numbers their index is compared with.

    The comparisons themselves go when TVM simplifies: within each part they are always true or
    always false.
    """
    return tvm_ffi.structural_map(function, (For, _split))


def _split(loop: For) -> Stmt:
    body, extent = loop.body, loop.extent
    if loop.kind != ForKind.SERIAL or not isinstance(body, SBlockRealize):
        return loop
    if not isinstance(extent, IntImm) or int(loop.min) != 0 or loop.annotations:
        return loop
    axes = [
        axis.var
        for axis, value in zip(body.block.iter_vars, body.iter_values, strict=True)
        if value.same_as(loop.loop_var)
    ]
    points = sorted(p for p in _points(body.block.body, axes) if 0 < p < int(extent))
    if not points or int(extent) < SHORTEST * (len(points) + 1):
        return loop
    ends = [*points, int(extent)]
    return seq(_part(loop, start, end) for start, end in zip([0, *points], ends, strict=True))


def _part(loop: For, start: int, end: int) -> Stmt:
    dtype = loop.loop_var.ty.dtype
    var = tirx.Var(loop.loop_var.name, dtype)
    place = var + tirx.IntImm(dtype, start)
    old = loop.loop_var
    body = tvm_ffi.structural_map(loop.body, (tirx.Var, lambda v: place if v.same_as(old) else v))
    return For(var, tirx.IntImm(dtype, 0), tirx.IntImm(dtype, end - start), loop.kind, body)


def _points(body: Stmt, axes: list[tirx.Var]) -> set[int]:
    """Where a comparison of one of `axes` with a number changes."""
    found: set[int] = set()

    def note(left: tirx.Expr, right: tirx.Expr, at_right: int, at_left: int) -> None:
        if isinstance(right, IntImm) and any(left.same_as(axis) for axis in axes):
            found.add(int(right) + at_right)
        if isinstance(left, IntImm) and any(right.same_as(axis) for axis in axes):
            found.add(int(left) + at_left)

    # v < n and n <= v change at n; v <= n and n < v at n + 1.
    callbacks = [
        (kind, lambda c, right=right, left=left: note(c.a, c.b, right, left))
        for kind, right, left in (
            (tirx.LT, 0, 1),
            (tirx.LE, 1, 0),
            (tirx.GT, 1, 0),
            (tirx.GE, 0, 1),
        )
    ]
    tvm_ffi.structural_walk(body, callbacks)
    return found
