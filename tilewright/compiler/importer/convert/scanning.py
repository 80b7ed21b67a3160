"""Converters of sums and products of all that is before: CumSum and CumProd.

Step by step along the axis, all that lies side by side at once. The axis may be computed: then the
result for each axis is, and one of them is taken.
Source: https://onnx.ai/onnx/operators/onnx__CumSum.html
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from tvm import relax, tirx
from tvm.ir import GenericConst
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sequential import indices, sequential
from tilewright.compiler.importer.convert.sizes import Converter, from_start, numbers

Combine = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]
_ONE = tirx.IntImm("int64", 1)


def _cumulative(combine: Combine, neutral: int) -> Converter:
    """The converter for sums or products: `combine` of a number and `neutral` is the number."""

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        x, axis = inputs
        rank = x.ty.ndim
        exclusive, reverse = bool(attrs.get("exclusive", 0)), bool(attrs.get("reverse", 0))

        def along(n: int) -> relax.Expr:
            def write(x: Any, y: Any) -> None:
                steps = x.shape[n]
                outer, inner = math.prod(x.shape[:n], start=_ONE), x.shape[n + 1 :]
                places = math.prod(inner, start=_ONE)

                def at(row: tirx.Expr, step: tirx.Expr, place: tirx.Expr) -> tuple:
                    step = steps - 1 - step if reverse else step
                    return (*indices(row, x.shape[:n]), step, *indices(place, inner))

                with T.parallel(0, outer) as row:
                    with T.serial(0, tirx.min(steps, _ONE)) as step, T.serial(0, places) as place:
                        first = at(row, step, place)
                        y[first] = tirx.const(neutral, str(x.dtype)) if exclusive else x[first]
                    with T.serial(0, steps - 1) as step, T.serial(0, places) as place:
                        now, before = at(row, step + 1, place), at(row, step, place)
                        y[now] = combine(y[before], x[before if exclusive else now])

            results = lambda x: [(x.shape, x.dtype)]  # noqa: E731
            (y,) = sequential(bb, write, [x], results, name="scan")
            return y

        if isinstance(axis, GenericConst):
            return along(int(axis.value.numpy().item()) % rank)
        wanted = bb.emit(relax.op.reshape(from_start(bb, axis, rank), []))
        y = along(0)
        for n in range(1, rank):
            y = bb.emit(relax.op.where(relax.op.equal(wanted, numbers(n)), along(n), y))
        return y

    return convert


cum_sum, cum_prod = _cumulative(operator.add, 0), _cumulative(operator.mul, 1)
