"""Sizes computed in two ways that must be the same, such as those of two paths of a network.

    x[h] -> stride 2 -> [(h - 1) // 2 + 1] -> upsample by 2 -> [((h - 1) // 2 + 1) * 2]
      `-----------------------------> Add <-----------------------'            h = that?

Nobody can prove it: for an odd h it is not so, and the model refuses such a size. Relax gives up
the shape of the result, and with it every kernel behind. So one of the two is declared to have the
size of the other, which is checked when the model runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm_ffi
from tvm import relax, tirx
from tvm.tirx import IntImm

_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "Mod", "Pow", "PRelu", "Max", "Min", "Mean", "Sum", "Where"),
    *("And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"),
    *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
)
OPERATORS = frozenset((*_BROADCASTING, "Concat"))


def agreed(
    bb: relax.BlockBuilder, operator: str, axis: int, values: Sequence[relax.Expr]
) -> list[relax.Expr]:
    """`values`, inputs of `operator`, with sizes that are the same wherever they have to be.

    `axis` is that of a Concat.
    """
    if not all(_has_shape(value) for value in values) or _known(bb, operator, axis, values):
        return list(values)
    shapes = [list(value.ty.shape) for value in values]
    rank = max(map(len, shapes))
    for back in range(1, rank + 1):
        if operator == "Concat" and rank - back == axis % rank:
            continue
        sizes = [shape[-back] for shape in shapes if len(shape) >= back]
        wanted = _wanted(sizes, operator)
        for shape in shapes:
            if len(shape) >= back and _must_equal(shape[-back], wanted, operator):
                shape[-back] = wanted
    return [_with_shape(bb, *pair) for pair in zip(values, shapes, strict=True)]


def _has_shape(value: relax.Expr) -> bool:
    ty = value.ty
    return isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.ShapeExpr)


def _known(bb: relax.BlockBuilder, operator: str, axis: int, values: Sequence[relax.Expr]) -> bool:
    """Whether Relax finds the shape of the result by itself."""
    if operator == "Concat":
        return bb.normalize(relax.op.concat(list(values), axis)).ty.shape is not None
    if _alike(values):
        return True
    one = values[0]
    for other in values[1:]:
        # A comparison takes any type that both have; of a Where the first is another.
        found = relax.op.equal(_as_bool(one), _as_bool(other))
        if bb.normalize(found).ty.shape is None:
            return False
        one = found
    return True


def _alike(values: Sequence[relax.Expr]) -> bool:
    """Whether the sizes at each place from the end are written alike, but for ones.

    Most are; asking Relax leaves bindings behind that nobody reads.
    """
    shapes = [list(value.ty.shape)[::-1] for value in values]
    for place in range(max(map(len, shapes))):
        sizes = [shape[place] for shape in shapes if len(shape) > place]
        others = [size for size in sizes if not _is_one(size)]
        if not all(tvm_ffi.structural_equal(size, others[0]) for size in others[1:]):
            return False
    return True


def _as_bool(value: relax.Expr) -> relax.Expr:
    return relax.op.astype(value, "bool")


def _wanted(sizes: Sequence[tirx.Expr], operator: str) -> tirx.Expr:
    """The size that all are to have: a number where there is one, else the shortest expression.

    A dimension of the model itself is the last choice: TVM's CanonicalizeBindings takes a value
    that is declared to have size h for what h means, and does not return where that says h again.
    """
    candidates = [size for size in sizes if not _is_one(size)] if operator != "Concat" else sizes

    def order(size: tirx.Expr) -> tuple[bool, bool, int]:
        return not isinstance(size, IntImm), isinstance(size, tirx.Var), len(str(size))

    return min(candidates or sizes, key=order)


def _must_equal(size: tirx.Expr, wanted: tirx.Expr, operator: str) -> bool:
    """Whether `size` can only be `wanted`, though it is written in another way.

    Where an operator broadcasts, two dimensions of the model's own may differ: one may be 1.
    """
    if tvm_ffi.structural_equal(size, wanted):
        return False
    if operator == "Concat":
        return not (isinstance(size, IntImm) and isinstance(wanted, IntImm))
    both_open = not isinstance(size, IntImm) and not isinstance(wanted, IntImm)
    derived = not (isinstance(size, tirx.Var) and isinstance(wanted, tirx.Var))
    return both_open and derived and bool(_variables(size) & _variables(wanted))


def _variables(size: tirx.Expr) -> set[str]:
    found: set[str] = set()
    tvm_ffi.structural_walk(size, (tirx.Var, lambda variable: found.add(variable.name)))
    return found


def _is_one(size: tirx.Expr) -> bool:
    return isinstance(size, IntImm) and int(size) == 1


def _with_shape(
    bb: relax.BlockBuilder, value: relax.Expr, shape: Sequence[tirx.Expr]
) -> relax.Expr:
    if all(map(tvm_ffi.structural_equal, shape, value.ty.shape)):
        return value
    return bb.match_cast(value, relax.TensorType(list(shape), str(value.ty.dtype)))
