"""The converter of Pad where how much is padded, with what, or along which axes is computed.

    y[o] = x[o - before] inside x, else what the mode says

Source: https://onnx.ai/onnx/operators/onnx__Pad.html
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax, te, tirx

from tilewright.compiler.importer.convert.sizes import (
    Size,
    as_int64,
    from_start,
    kernel,
    length_of,
    numbers,
    sizes_of,
    vector_of,
)
from tilewright.compiler.importer.graph import text
from tilewright.errors import UnsupportedModel


def _mirrored(i: tirx.Expr, size: Size) -> tirx.Expr:
    period = tirx.max(2 * (size - 1), 1)
    back = tirx.floormod(i, period)
    return tirx.min(back, period - back)


# Where in x the number is that stands at `i`, which may be outside.
_PLACES: dict[str, Callable[[tirx.Expr, Size], tirx.Expr]] = {
    "edge": lambda i, size: tirx.max(tirx.min(i, size - 1), 0),
    "reflect": lambda i, size: tirx.Select(size == 1, tirx.const(0, "int64"), _mirrored(i, size)),
    "wrap": tirx.floormod,
}


def pad(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Pad; a negative number of elements is taken away instead."""
    x, pads, value, axes = [*inputs, None, None][:4]
    mode = text(attrs.get("mode", "constant"))
    if mode != "constant" and mode not in _PLACES:
        raise UnsupportedModel(f"the mode {mode}", expected=f"constant, {', '.join(_PLACES)}")
    rank, dtype = x.ty.ndim, str(x.ty.dtype)
    before, after = _sides(bb, as_int64(bb, pads), axes, rank)
    total = relax.op.add(vector_of(bb, x), relax.op.add(before, after))
    sizes = sizes_of(bb, bb.emit(total), "padded")
    value = relax.const(0, dtype) if value is None else bb.emit(relax.op.reshape(value, []))

    def compute(x: te.Tensor, before: te.Tensor, value: te.Tensor, sizes: list[Size]) -> te.Tensor:
        def element(*at: tirx.Var) -> tirx.Expr:
            own = [i - before[n] for n, i in enumerate(at)]
            if mode != "constant":
                return x(*(_PLACES[mode](i, s) for i, s in zip(own, x.shape, strict=True)))
            inside = tirx.all(*(tirx.all(i >= 0, i < s) for i, s in zip(own, x.shape, strict=True)))
            return tirx.if_then_else(inside, x(*own), value())

        return te.compute(sizes, element, name="pad")

    return kernel(bb, compute, x, before, value, sizes, name="pad")


def _sides(
    bb: relax.BlockBuilder, pads: relax.Expr, axes: relax.Expr | None, rank: int
) -> tuple[relax.Expr, relax.Expr]:
    """How much is added before and after each of the axes of x."""
    count = length_of(pads, "pads") // 2
    sides = [
        bb.emit(relax.op.strided_slice(pads, [0], [first], [first + count])) for first in (0, count)
    ]
    if axes is None:
        return sides[0], sides[1]
    column = relax.op.expand_dims(from_start(bb, axes, rank), 1)
    mine = relax.op.astype(relax.op.equal(column, numbers([list(range(rank))])), "int64")
    return tuple(
        bb.emit(relax.op.sum(relax.op.multiply(mine, relax.op.expand_dims(side, 1)), 0))
        for side in sides
    )
