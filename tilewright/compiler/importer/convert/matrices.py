"""The converter of Det: elimination, with the largest of a column as pivot.

Source: https://onnx.ai/onnx/operators/onnx__Det.html
"""

from __future__ import annotations

import math
from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sequential import sequential, variable


def det(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """The determinants of the matrices in the last two axes, since version 11."""
    *outer, size, _size = inputs[0].ty.shape
    shape = relax.ShapeExpr([math.prod(outer), size, size])
    x = bb.emit(relax.op.reshape(inputs[0], shape))
    dtype = str(x.ty.dtype)

    def write(x: Any, result: Any, rest: Any) -> None:
        count, size, _ = x.shape
        with T.parallel(0, count) as n:
            with T.serial(0, size) as i, T.serial(0, size) as j:
                rest[n, i, j] = x[n, i, j]
            product = variable(tirx.const(1, dtype), dtype)
            with T.serial(0, size) as k:
                _swap_pivot(rest, n, k, size, product)
                pivot = variable(rest[n, k, k], dtype)
                product[0] = product[0] * pivot[0]
                with (
                    T.If(pivot[0] != tirx.const(0, dtype)),
                    T.Then(),
                    T.serial(k + 1, size) as i,
                ):
                    factor = variable(rest[n, i, k] / pivot[0], dtype)
                    with T.serial(k, size) as j:
                        rest[n, i, j] = rest[n, i, j] - factor[0] * rest[n, k, j]
            result[n] = product[0]

    def shapes(x: te.Tensor) -> list:
        return [([x.shape[0]], dtype), (list(x.shape), dtype)]

    found, _ = sequential(bb, write, [x], shapes, name="det")
    return relax.op.reshape(found, relax.ShapeExpr(outer))


def _swap_pivot(rest: Any, n: tirx.Var, k: tirx.Var, size: tirx.Expr, product: Any) -> None:
    """Exchange row k with the row below it that is largest in column k; the sign changes."""
    best = variable(tirx.Cast("int64", k), "int64")
    with (
        T.serial(k + 1, size) as i,
        T.If(tirx.abs(rest[n, i, k]) > tirx.abs(rest[n, best[0], k])),
        T.Then(),
    ):
        best[0] = tirx.Cast("int64", i)
    with T.If(best[0] != tirx.Cast("int64", k)), T.Then():
        product[0] = -product[0]
        with T.serial(0, size) as j:
            kept = variable(rest[n, k, j], rest.dtype)
            rest[n, k, j] = rest[n, best[0], j]
            rest[n, best[0], j] = kept[0]
