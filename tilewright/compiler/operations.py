"""Count the floating-point operations of one kernel in its TIR.

    for i in range(49):                               # 49 * 8 * 2 = 784
        y[i * 8 : i * 8 + 8] = y[...] + x[...] * w[...]

A multiplication, an addition, a division, a minimum, a maximum and a call of a function count one
per lane, whether LLVM joins two of them or not; arithmetic of integers (indices), comparisons and
selections count nothing. What stands twice in one store as the same object counts once. Of a
branch the costlier side counts. It is what the kernel does, not what the model asks for: Winograd
counts its own work, a polynomial its terms.
"""

from __future__ import annotations

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


class _Open(Exception):
    """A loop's extent is known only when the kernel is called."""


def operations(function: tirx.PrimFunc) -> int | None:
    """Operations of one call of `function`; None where its sizes are open."""
    try:
        return _statement(function.body)
    except _Open:
        return None


def _statement(stmt: tirx.Stmt) -> int:
    if isinstance(stmt, tirx.For):
        if not isinstance(stmt.extent, tirx.IntImm):
            raise _Open
        return int(stmt.extent) * _statement(stmt.body)
    if isinstance(stmt, tirx.While):
        raise _Open
    if isinstance(stmt, tirx.SeqStmt):
        return sum(map(_statement, stmt.seq))
    if isinstance(stmt, tirx.IfThenElse):
        otherwise = 0 if stmt.else_case is None else _statement(stmt.else_case)
        return max(_statement(stmt.then_case), otherwise)
    if isinstance(stmt, SBlockRealize):
        return _statement(stmt.block.body)
    if isinstance(stmt, tirx.AttrStmt):
        return _statement(stmt.body)
    if isinstance(stmt, tirx.BufferStore | tirx.Bind | tirx.Evaluate):
        return _expression(stmt.value)
    return 0


def _expression(expr: tirx.Expr) -> int:
    found, seen = 0, set()

    def visit(node: tirx.Expr) -> tvm_ffi.WalkResult | None:
        nonlocal found
        if hash(node) in seen:
            return tvm_ffi.WalkResult.SKIP
        seen.add(hash(node))
        found += _one(node)
        return None

    kinds = (*_ARITHMETIC, tvm.ir.Call)
    tvm_ffi.structural_walk(expr, (kinds, visit), order=tvm_ffi.WalkOrder.PREORDER)
    return found


def _one(node: tirx.Expr) -> int:
    dtype = tvm.DataType(str(node.ty.dtype))
    counts = isinstance(node, _ARITHMETIC) or getattr(node.op, "name", "") in _CALLS
    return dtype.lanes if counts and str(dtype).startswith(("float", "bfloat")) else 0
