"""Converters of sums and products of all that is before: CumSum and CumProd.

The axis may be computed: then the result for each axis is, and one of them is taken.
Source: https://onnx.ai/onnx/operators/onnx__CumSum.html
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax
from tvm.ir import GenericConst

from tilewright.compiler.importer.convert.sizes import Converter, from_start, numbers


def cumulative(scan: Callable) -> Converter:
    """The converter of CumSum or CumProd; `scan` is what Relax has for it."""

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        x, axis = inputs
        rank, dtype = x.ty.ndim, str(x.ty.dtype)
        exclusive, reverse = bool(attrs.get("exclusive", 0)), bool(attrs.get("reverse", 0))

        def along(n: int) -> relax.Expr:
            y = bb.emit(relax.op.flip(x, n)) if reverse else x
            y = bb.emit(scan(y, n, dtype=dtype, exclusive=exclusive))
            return bb.emit(relax.op.flip(y, n)) if reverse else y

        if isinstance(axis, GenericConst):
            return along(int(axis.value.numpy().item()) % rank)
        wanted = bb.emit(relax.op.reshape(from_start(bb, axis, rank), []))
        y = along(0)
        for n in range(1, rank):
            y = bb.emit(relax.op.where(relax.op.equal(wanted, numbers(n)), along(n), y))
        return y

    return convert
