"""Converters of operators that keep some elements: NonZero and Compress.

How many there are is only known once they have been counted.
Source: https://onnx.ai/onnx/operators/onnx__NonZero.html, onnx__Compress.html
"""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sequential import sequential, variable
from tilewright.compiler.importer.convert.sizes import Size, kernel, sizes_of


def nonzero(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """NonZero: a column of indices for each element that is not 0, in order; since version 9."""
    x = inputs[0]
    places = _places(bb, x)
    (count,) = places.ty.shape
    if x.ty.ndim == 0:
        return relax.op.zeros(relax.ShapeExpr([0, count]), "int64")

    def compute(x: te.Tensor, places: te.Tensor) -> te.Tensor:
        def index(axis: tirx.Var, n: tirx.Var) -> tirx.Expr:
            found, inner = tirx.const(0, "int64"), tirx.const(1, "int64")
            for number in reversed(range(len(x.shape))):
                here = tirx.floormod(tirx.floordiv(places[n], inner), x.shape[number])
                found = tirx.Select(axis == number, here, found)
                inner = inner * x.shape[number]
            return found

        return te.compute((len(x.shape), places.shape[0]), index, name="indices")

    return kernel(bb, compute, x, places, name="nonzero")


def compress(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Compress: what a vector of bool says, along an axis or of all elements; since version 9."""
    x, condition = inputs
    if "axis" not in attrs:
        x = bb.emit(relax.op.reshape(x, [-1]))
    # A condition that is too long would read foreign memory.
    return relax.op.take(x, _places(bb, condition), attrs.get("axis", 0), mode="clip")


def _places(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
    """Where elements are not 0, as numbers of them in memory: int64."""
    flat = bb.emit(relax.op.reshape(bb.emit(relax.op.astype(x, "bool")), [-1]))
    total = bb.emit(relax.op.sum(relax.op.astype(flat, "int64"), 0, keepdims=True))
    (size,) = sizes_of(bb, total, "chosen")

    def write(flat: Any, places: Any, _size: Size) -> None:
        done = variable(T.int64(0), "int64")
        with T.serial(0, flat.shape[0]) as n, T.If(flat[n]), T.Then():
            places[done[0]] = tirx.Cast("int64", n)
            done[0] = done[0] + T.int64(1)

    def shapes(_flat: te.Tensor, size: Size) -> list:
        return [([size], "int64")]

    (found,) = sequential(bb, write, [flat], shapes, size, name="places")
    return found
