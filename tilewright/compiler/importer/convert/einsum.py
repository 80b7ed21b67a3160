"""The converter of Einsum: of two operands, a matrix product of their axes.

    bqhd,bkhd->bhqk     batch b, h; rows q; columns k; summed d

Each operand is turned into [batch, rows, summed] and [batch, summed, columns], and the product back
into the order that is asked for. What is no such product (one operand, more than two, an axis
twice, an ellipsis, a size that is broadcast) is left to TVM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tvm_ffi
from tvm import relax, tirx

from tilewright.compiler.importer.convert.sizes import stock
from tilewright.compiler.importer.graph import text

_ONE = tirx.IntImm("int64", 1)


@dataclass(frozen=True)
class _Roles:
    """The axes of a product by name, each kind in the order of the first operand it is in."""

    batch: str
    rows: str
    columns: str
    summed: str


def einsum(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Einsum; TVM's kernel is a plain loop nest."""
    equation = text(attrs["equation"]).replace(" ", "")
    roles = _roles(equation, inputs)
    if roles is None:
        return stock("Einsum", bb, inputs, attrs, opset)
    (one, other), after = equation.split("->")[0].split(","), equation.split("->")[1]
    sizes = {
        name: size
        for names, operand in zip((one, other), inputs, strict=True)
        for name, size in zip(names, operand.ty.shape, strict=True)
    }

    def turned(x: relax.Expr, names: str, order: str) -> relax.Expr:
        return x if names == order else relax.op.permute_dims(x, [names.index(n) for n in order])

    def merged(x: relax.Expr, *groups: str) -> relax.Expr:
        shape = [math.prod((sizes[name] for name in group), start=_ONE) for group in groups]
        batch = [sizes[name] for name in roles.batch]
        return relax.op.reshape(x, relax.ShapeExpr([*batch, *shape]))

    a = turned(inputs[0], one, roles.batch + roles.rows + roles.summed)
    b = turned(inputs[1], other, roles.batch + roles.summed + roles.columns)
    y = relax.op.matmul(merged(a, roles.rows, roles.summed), merged(b, roles.summed, roles.columns))
    made = roles.batch + roles.rows + roles.columns
    y = relax.op.reshape(y, relax.ShapeExpr([sizes[name] for name in made]))
    return turned(y, made, after)


def _roles(equation: str, inputs: list) -> _Roles | None:
    """Which axis does what; None where it is no product of two matrices."""
    if "->" not in equation or "." in equation or len(inputs) != 2:
        return None
    if any(str(x.ty.dtype) != "float32" for x in inputs):
        return None
    before, after = equation.split("->")
    one, other = before.split(",")
    if any(len(set(names)) != len(names) for names in (one, other, after)):
        return None
    # An axis of one operand that is not in the result would be summed first.
    alone = set(one) ^ set(other)
    if not alone <= set(after) or not _same_sizes(one, other, inputs):
        return None
    return _Roles(
        batch="".join(n for n in one if n in other and n in after),
        rows="".join(n for n in one if n not in other),
        columns="".join(n for n in other if n not in one),
        summed="".join(n for n in one if n in other and n not in after),
    )


def _same_sizes(one: str, other: str, inputs: list) -> bool:
    """Whether all sizes are known, and an axis of both operands has one size."""
    shapes = [getattr(x.ty, "shape", None) for x in inputs]
    if not all(isinstance(shape, relax.ShapeExpr) for shape in shapes):
        return False
    if any(len(s.values) != len(n) for s, n in zip(shapes, (one, other), strict=True)):
        return False
    sizes = [dict(zip(n, s.values, strict=True)) for n, s in zip((one, other), shapes, strict=True)]
    return all(
        tvm_ffi.structural_equal(sizes[0][name], sizes[1][name]) for name in set(one) & set(other)
    )
