"""Count the floating-point operations of one kernel in its TIR.

    for i in range(49):                               # 49 * 8 * 2 = 784
        y[i * 8 : i * 8 + 8] = y[...] + x[...] * w[...]

A multiplication, an addition, a division, a minimum, a maximum and a call of a function count one
per lane, whether LLVM joins two of them or not; arithmetic of integers (indices), comparisons and
selections count nothing. What stands twice in one sequence as the same object counts once. It is
what the kernel does, not what the model asks for: Winograd counts its own work, a polynomial its
terms, a last vector its idle lanes.

Loops and branches whose bounds and conditions depend on the loops around them are counted exactly:
all values of those loops at once, as numpy arrays. A branch on data counts its costlier side.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlockRealize

_ARITHMETIC = (tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min)
_CALLS = frozenset(
    f"tirx.{name}"
    for name in (
        *("exp", "exp2", "exp10", "log", "log2", "log10", "log1p", "tanh", "erf", "sigmoid"),
        *("sqrt", "rsqrt", "pow", "sin", "cos", "tan", "floor", "ceil", "round", "nearbyint"),
        *("trunc", "fabs", "fma", "hypot", "atan", "asin", "acos", "sinh", "cosh"),
    )
)
_INDEX: dict[type, Callable[..., Any]] = {
    tirx.Add: operator.add,
    tirx.Sub: operator.sub,
    tirx.Mul: operator.mul,
    tirx.FloorDiv: operator.floordiv,
    tirx.FloorMod: operator.mod,
    tirx.Min: np.minimum,
    tirx.Max: np.maximum,
    tirx.LT: operator.lt,
    tirx.LE: operator.le,
    tirx.GT: operator.gt,
    tirx.GE: operator.ge,
    tirx.EQ: operator.eq,
    tirx.NE: operator.ne,
    tirx.And: np.logical_and,
    tirx.Or: np.logical_or,
}
_PLAIN = (tirx.BufferStore, tirx.Bind, tirx.Evaluate)
# Iterations looked at one by one; a kernel with more is not counted.
_MOST_POINTS = 4_000_000


class _Unknown(Exception):
    """A value is known only when the kernel runs."""


@dataclass(frozen=True)
class _Points:
    """Iterations that reach a statement: values of the variables that matter, and how often."""

    values: dict[int, np.ndarray]
    times: np.ndarray

    def take(self, where: np.ndarray) -> _Points:
        """Those at `where`, a mask or places."""
        return _Points({k: v[where] for k, v in self.values.items()}, self.times[where])


def operations(function: tirx.PrimFunc) -> int | None:
    """Operations of one call of `function`; None where its sizes are open."""
    once = _Points({}, np.ones(1, np.int64))
    try:
        return int(_Counter(_steering(function.body)).count(function.body, once))
    except _Unknown:
        return None


class _Counter:
    def __init__(self, steering: set[int]) -> None:
        self._steering = steering

    def count(self, stmt: tirx.Stmt, points: _Points) -> int:
        """Operations of `stmt` over all `points`."""
        if isinstance(stmt, tirx.SeqStmt):
            return self._sequence(stmt, points)
        if isinstance(stmt, tirx.For):
            return self.count(stmt.body, self._repeated(stmt, points))
        if isinstance(stmt, tirx.While):
            raise _Unknown
        if isinstance(stmt, tirx.IfThenElse):
            return self._branch(stmt, points)
        if isinstance(stmt, SBlockRealize):
            return self._block(stmt, points)
        if isinstance(stmt, tirx.AttrStmt):
            return self.count(stmt.body, points)
        if isinstance(stmt, _PLAIN):
            return _expressions([stmt.value]) * int(points.times.sum())
        return 0

    def _sequence(self, stmt: tirx.SeqStmt, points: _Points) -> int:
        found, plain = 0, []
        for step in stmt.seq:
            if isinstance(step, tirx.Bind) and hash(step.var) in self._steering:
                value = _evaluate(step.value, points)
                points = _Points({**points.values, hash(step.var): value}, points.times)
            if isinstance(step, _PLAIN):
                plain.append(step.value)
            else:
                found += self.count(step, points)
        # One walk for all: to start one costs more than to look at a statement.
        return found + _expressions(plain) * int(points.times.sum())

    def _repeated(self, stmt: tirx.For, points: _Points) -> _Points:
        extent = np.maximum(_evaluate(stmt.extent, points), 0)
        if hash(stmt.loop_var) not in self._steering:
            return _Points(points.values, points.times * extent)
        total = int(extent.sum())
        if total > _MOST_POINTS:
            raise _Unknown
        places = np.repeat(np.arange(len(extent)), extent)
        starts = np.repeat(np.cumsum(extent) - extent, extent)
        value = np.arange(total) - starts + _evaluate(stmt.min, points)[places]
        inside = points.take(places)
        return _Points({**inside.values, hash(stmt.loop_var): value}, inside.times)

    def _branch(self, stmt: tirx.IfThenElse, points: _Points) -> int:
        def side(body: tirx.Stmt | None, there: _Points) -> int:
            return 0 if body is None or not len(there.times) else self.count(body, there)

        try:
            holds = _evaluate(stmt.condition, points).astype(bool)
        except _Unknown:
            return max(side(stmt.then_case, points), side(stmt.else_case, points))
        return side(stmt.then_case, points.take(holds)) + side(stmt.else_case, points.take(~holds))

    def _block(self, stmt: SBlockRealize, points: _Points) -> int:
        values = dict(points.values)
        for axis, value in zip(stmt.block.iter_vars, stmt.iter_values, strict=True):
            if hash(axis.var) in self._steering:
                values[hash(axis.var)] = _evaluate(value, points)
        inside = _Points(values, points.times)
        return self.count(stmt.block.body, inside.take(_evaluate(stmt.predicate, points) != 0))


def _steering(body: tirx.Stmt) -> set[int]:
    """Variables that bounds and conditions depend on, also by way of others."""
    roots: list[tirx.Expr] = []
    binds: list[tuple[int, tirx.Expr]] = []

    def visit(stmt: Any) -> None:
        if isinstance(stmt, tirx.For):
            roots.extend([stmt.extent, stmt.min])
        elif isinstance(stmt, tirx.IfThenElse):
            roots.append(stmt.condition)
        elif isinstance(stmt, tirx.Bind):
            binds.append((hash(stmt.var), stmt.value))
        else:
            roots.append(stmt.predicate)
            axes = zip(stmt.block.iter_vars, stmt.iter_values, strict=True)
            binds.extend((hash(axis.var), value) for axis, value in axes)

    kinds = (tirx.For, tirx.IfThenElse, tirx.Bind, SBlockRealize)
    tvm_ffi.structural_walk(body, (kinds, visit))
    found = set().union(*map(_variables, roots)) if roots else set()
    # What a binding depends on is bound before it, or around it: until nothing is new.
    size = -1
    while size != len(found):
        size = len(found)
        found |= set().union(*(_variables(value) for var, value in binds if var in found))
    return found


def _variables(expr: tirx.Expr) -> set[int]:
    found: set[int] = set()
    tvm_ffi.structural_walk(expr, (tirx.Var, lambda var: found.add(hash(var))))
    return found


def _evaluate(expr: tirx.Expr, points: _Points) -> np.ndarray:
    """The value of an index expression at each of `points`."""
    if isinstance(expr, tirx.IntImm):
        return np.full(len(points.times), int(expr), np.int64)
    if isinstance(expr, tirx.Var) and hash(expr) in points.values:
        return points.values[hash(expr)]
    if type(expr) in _INDEX:
        return _INDEX[type(expr)](_evaluate(expr.a, points), _evaluate(expr.b, points))
    if isinstance(expr, tirx.Cast):
        return _evaluate(expr.value, points)
    if isinstance(expr, tirx.Not):
        return ~_evaluate(expr.a, points).astype(bool)
    if isinstance(expr, tvm.ir.Call) and getattr(expr.op, "name", "") == "tirx.likely":
        return _evaluate(expr.args[0], points)
    raise _Unknown


def _expressions(exprs: list[tirx.Expr]) -> int:
    found, seen = 0, set()

    def visit(node: tirx.Expr) -> tvm_ffi.WalkResult | None:
        nonlocal found
        if hash(node) in seen:
            return tvm_ffi.WalkResult.SKIP
        seen.add(hash(node))
        found += _one(node)
        return None

    kinds = (*_ARITHMETIC, tvm.ir.Call)
    tvm_ffi.structural_walk(exprs, (kinds, visit), order=tvm_ffi.WalkOrder.PREORDER)
    return found


def _one(node: tirx.Expr) -> int:
    """Operations of the node itself: its lanes, or none."""
    if not hasattr(node.ty, "dtype"):
        return 0  # It gives nothing: a prefetch.
    dtype = tvm.DataType(str(node.ty.dtype))
    counts = isinstance(node, _ARITHMETIC) or getattr(node.op, "name", "") in _CALLS
    return dtype.lanes if counts and str(dtype).startswith(("float", "bfloat")) else 0
