"""Sizes as C: expressions of the open dimensions, in 64-bit integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx
from tvm.ir import Call

from tilewright.errors import UnsupportedModel

_INFIX = {
    tirx.Add: "+",
    tirx.Sub: "-",
    tirx.Mul: "*",
    tirx.EQ: "==",
    tirx.NE: "!=",
    tirx.LT: "<",
    tirx.LE: "<=",
    tirx.GT: ">",
    tirx.GE: ">=",
    tirx.And: "&&",
    tirx.Or: "||",
}
# Functions of `PRELUDE`.
_CALLS = {
    tirx.FloorDiv: "floor_div",
    tirx.FloorMod: "floor_mod",
    tirx.Div: "truncated_div",
    tirx.Mod: "truncated_mod",
    tirx.Min: "smaller",
    tirx.Max: "larger",
}

_CONDITIONALS = ("tirx.if_then_else", "prim.if_then_else")

NEEDS_VM = "compile for a machine that TVM's runtime is there for, without --standalone"
PRELUDE = """\
static inline int64_t floor_div(int64_t a, int64_t b) {
  return a / b - (a % b && (a < 0) != (b < 0));
}
static inline int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }
static inline int64_t truncated_div(int64_t a, int64_t b) { return a / b; }
static inline int64_t truncated_mod(int64_t a, int64_t b) { return a % b; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
"""


def c_expression(size: Any, names: Mapping[str, str], where: str) -> str:
    """`size` as C; `names` are what the open dimensions are called there.

    Raises UnsupportedModel for what is no expression of integers.
    """
    kind = type(size)
    if isinstance(size, int):
        return str(size)
    if kind is tirx.IntImm:
        return str(size.value)
    if kind is tirx.Var and size.name in names:
        return names[size.name]
    parts = [c_expression(part, names, where) for part in _operands(size)]
    if kind in _INFIX:
        return f"({parts[0]} {_INFIX[kind]} {parts[1]})"
    if kind in _CALLS:
        return f"{_CALLS[kind]}({parts[0]}, {parts[1]})"
    if len(parts) == 3:
        return "({} ? {} : {})".format(*parts)
    if parts:
        return parts[0]
    raise UnsupportedModel(
        f"a size that C cannot be told: {size}",
        where=where,
        expected="integers, sums, products, quotients, minima and maxima of open dimensions",
        hint=NEEDS_VM,
    )


def _operands(size: Any) -> list[Any]:
    """The parts of an expression; none of one that is not known here."""
    kind = type(size)
    if kind in _INFIX or kind in _CALLS:
        return [size.a, size.b]
    if kind is tirx.Cast:
        return [size.value]
    if kind is tirx.Select:
        return [size.condition, size.true_value, size.false_value]
    if kind is Call and getattr(size.op, "name", "") in _CONDITIONALS:
        return list(size.args)
    return []
