"""Converters of reductions: their axes may be computed, and what they reduce may be bool.

    y[o] = sum over r of x[o + r]     o_i < kept_i,  r_i < reduced_i

An axis that is reduced has kept_i = 1 and reduced_i = its size, another one kept_i = its size and
reduced_i = 1: which it is, is then a matter of sizes.
Source: https://onnx.ai/onnx/operators/onnx__ReduceSum.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import relax, te, tirx
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.sizes import (
    Converter,
    Size,
    before,
    chosen,
    is_computed,
    kernel,
    length_of,
    numbers,
    sizes_of,
    stock,
    vector_of,
)
from tilewright.errors import UnsupportedModel

OPERATORS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
)


_NEEDS_SOME = ("ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin")


@dataclass(frozen=True)
class _Combined:
    """How two numbers become one, and what is left of none."""

    combine: Callable
    nothing: Callable[[str], tirx.Expr]


_PRODUCT = te.comm_reducer(lambda x, y: x * y, lambda dtype: tirx.const(1, dtype), name="product")
_SUM = _Combined(te.sum, lambda dtype: tirx.const(0, dtype))
_COMBINED = {
    "ReduceMax": _Combined(te.max, lambda dtype: _extremes(str(dtype))[0]),
    "ReduceMin": _Combined(te.min, lambda dtype: _extremes(str(dtype))[1]),
    "ReduceProd": _Combined(_PRODUCT, lambda dtype: tirx.const(1, dtype)),
}
# What is done to each number before, and to the sum after.
_BEFORE = {
    "ReduceL1": relax.op.abs,
    "ReduceL2": relax.op.square,
    "ReduceSumSquare": relax.op.square,
}
_AFTER = {"ReduceL2": relax.op.sqrt, "ReduceLogSum": relax.op.log}


def reduce(operator: str) -> Converter:
    """The converter of one of OPERATORS."""

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        x = inputs[0]
        if str(x.ty.dtype) == "bool":
            whole = bb.emit(relax.op.astype(x, "uint8"))
            reduced = convert(bb, [whole, *inputs[1:]], attrs, opset)
            return relax.op.astype(bb.normalize(reduced), "bool")
        if len(inputs) < 2 or not is_computed(inputs[1]):
            _refuse_nothing(operator, x)
            return stock(operator, bb, inputs, attrs, opset)
        reduction = _Reduction(bb, operator, x, inputs[1], attrs.get("noop_with_empty_axes", 0))
        return reduction.whole(attrs.get("keepdims", 1) != 0)

    return convert


def _refuse_nothing(operator: str, x: relax.Expr) -> None:
    """The mean or the extremes of nothing: TVM divides by zero, or answers what is no extreme."""
    sizes = x.ty.shape if isinstance(x.ty.shape, relax.ShapeExpr) else ()
    if operator in _NEEDS_SOME and any(isinstance(s, IntImm) and s.value == 0 for s in sizes):
        raise UnsupportedModel(
            f"{operator} of a tensor without elements, of shape {[str(size) for size in sizes]}",
            expected="at least one element",
            hint="are the sizes right? --shape and --dim give others to open dimensions",
        )


def _extremes(dtype: str) -> tuple[tirx.Expr, tirx.Expr]:
    """The least and the greatest number, infinite where there is such."""
    if dtype.startswith("float"):
        return tirx.const(-np.inf, dtype), tirx.const(np.inf, dtype)
    return tirx.min_value(dtype), tirx.max_value(dtype)


class _Reduction:
    def __init__(
        self, bb: relax.BlockBuilder, operator: str, x: relax.Expr, axes: relax.Expr, noop: int
    ) -> None:
        """Without any axes all are reduced, or with `noop` none."""
        self._bb, self._operator, self._x, self._axes = bb, operator, x, axes
        self._rank, self._noop = x.ty.ndim, noop
        reduced = chosen(bb, axes, self._rank, otherwise=0 if noop else 1)
        sizes, one = vector_of(bb, x), numbers(1)
        self._mask = bb.emit(relax.op.astype(reduced, "bool"))
        self._kept_vector = bb.emit(relax.op.where(self._mask, one, sizes))
        self._extent_vector = bb.emit(relax.op.where(self._mask, sizes, one))
        self._kept = sizes_of(bb, self._kept_vector, "kept")
        self._extent = sizes_of(bb, self._extent_vector, "reduced")

    def whole(self, keeps: bool) -> relax.Expr:
        """The result, with axes of size 1 for those that are reduced or without them."""
        y = self._value()
        if keeps:
            return y
        count = length_of(self._axes, "axes")
        left = self._rank - (count or (0 if self._noop else self._rank))
        if left == 0:
            return relax.op.reshape(y, [])
        return relax.op.reshape(y, relax.ShapeExpr(self._sizes_left(left)))

    def _value(self) -> relax.Expr:
        bb, operator, x = self._bb, self._operator, self._x
        if operator == "ReduceLogSumExp":
            return self._log_sum_exp()
        if operator in _BEFORE:
            x = bb.emit(_BEFORE[operator](x))
        y = self._reduced(x, _COMBINED.get(operator, _SUM))
        if operator in _AFTER:
            return bb.emit(_AFTER[operator](y))
        if operator == "ReduceMean":
            count = relax.op.astype(relax.op.prod(self._extent_vector), str(x.ty.dtype))
            return bb.emit(relax.op.divide(y, bb.emit(count)))
        return y

    def _log_sum_exp(self) -> relax.Expr:
        """Relative to the greatest number: no exponential overflows."""
        bb = self._bb
        greatest = self._reduced(self._x, _COMBINED["ReduceMax"])
        zero = relax.const(0, str(self._x.ty.dtype))
        # Where all are -inf, or one is inf, the difference would be no number.
        greatest = bb.emit(relax.op.where(relax.op.isinf(greatest), zero, greatest))
        apart = kernel(bb, self._apart, self._x, greatest, self._kept, name="apart")
        total = self._reduced(bb.emit(relax.op.exp(apart)), _SUM)
        return bb.emit(relax.op.add(relax.op.log(total), greatest))

    def _apart(self, x: te.Tensor, y: te.Tensor, kept: list[Size]) -> te.Tensor:
        def place(at: tuple) -> list:
            return [tirx.min(i, size - 1) for i, size in zip(at, kept, strict=True)]

        return te.compute(x.shape, lambda *at: x(*at) - y(*place(at)), name="apart")

    def _reduced(self, x: relax.Expr, how: _Combined) -> relax.Expr:
        def compute(x: te.Tensor, kept: list[Size], extent: list[Size]) -> te.Tensor:
            inner = [te.reduce_axis((0, size), f"r{n}") for n, size in enumerate(extent)]

            def place(at: tuple) -> list:
                return [i + r for i, r in zip(at, inner, strict=True)]

            y = te.compute(kept, lambda *at: how.combine(x(*place(at)), axis=inner), name="reduced")
            # A loop over nothing writes nothing.
            nothing, start = tirx.any(*(size == 0 for size in extent)), how.nothing(x.dtype)
            return te.compute(kept, lambda *at: tirx.Select(nothing, start, y(*at)), name="result")

        return kernel(self._bb, compute, x, self._kept, self._extent, name="reduce")

    def _sizes_left(self, left: int) -> list[Size]:
        """The sizes of the axes that are not reduced, in order."""
        bb = self._bb
        stays = bb.emit(relax.op.subtract(numbers(1), relax.op.astype(self._mask, "int64")))
        # How many stay before each: its place among those.
        earlier = relax.op.multiply(numbers(before(self._rank)), stays)
        place = bb.emit(relax.op.sum(earlier, 1))
        here = relax.op.equal(relax.op.expand_dims(place, 0), numbers(np.arange(left)[:, None]))
        counted = relax.op.multiply(relax.op.astype(here, "int64"), stays)
        sizes = relax.op.sum(relax.op.multiply(counted, self._kept_vector), 1)
        return sizes_of(bb, bb.emit(sizes), "left")
