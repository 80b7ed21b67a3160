"""Convolutions and pools that are padded until their result has ceil(size / stride) numbers.

Before   Conv(x, auto_pad=SAME_UPPER, strides=2)
After    Conv(x, pads=[0, 0, 1, 1], strides=2)            where the sizes are known
         Conv(pad(x, ...), strides=2)                     where they are open and a stride is not 1

TVM writes a padded copy for a convolution, and fails on open sizes.
Source: https://onnx.ai/onnx/operators/onnx__Conv.html, attribute auto_pad
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax, te, tirx, topi
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.sizes import Converter, Size, kernel, stock
from tilewright.compiler.importer.graph import text

_SAME = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class _Window:
    """What slides along one axis: the size of `x`, numbers from end to end, and its step."""

    size: tirx.Expr
    extent: int
    stride: int

    @property
    def total(self) -> Size:
        """How many numbers are added along the axis."""
        if self.stride == 1:
            return self.extent - 1
        size = int(self.size) if isinstance(self.size, IntImm) else self.size
        needed = (-(-size // self.stride) - 1) * self.stride + self.extent
        if isinstance(size, int):
            return max(0, needed - size)
        # With a window no shorter than its step, never negative; sizes without a maximum are
        # simpler, and are proved to be the same as others.
        more = needed - size
        return more if self.extent >= self.stride else tirx.max(more, 0)


def same_padded(operator: str) -> Converter:
    """The converter of Conv or of a pool: TVM's own, with pads instead of auto_pad."""

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        how = text(attrs.get("auto_pad", "NOTSET"))
        if inputs[0].ty.shape is None:
            return stock(operator, bb, inputs, attrs, opset)
        if how not in _SAME:
            return _padded(operator, bb, list(inputs), attrs, opset)
        x, *rest = inputs
        attrs = {name: value for name, value in attrs.items() if name not in ("auto_pad", "pads")}
        windows = _windows(x, rest, attrs)
        sides = [_sides(window.total, how) for window in windows]
        if all(isinstance(side, int) for pair in sides for side in pair):
            attrs["pads"] = [pair[end] for end in (0, 1) for pair in sides]
            return _padded(operator, bb, [x, *rest], attrs, opset)
        return _copied(operator, bb, [x, *rest], attrs, opset, sides)

    return convert


def _padded(
    operator: str, bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int
) -> relax.Expr:
    """TVM's own, but for means of what is not padding under a window with gaps.

    Of such a window that begins before the first number TVM miscounts: the mean of what is inside
    is then the mean of all divided by that of ones.
    """
    gaps = any(int(gap) > 1 for gap in attrs.get("dilations", ()))
    alone = operator == "AveragePool" and not attrs.get("count_include_pad", 0)
    if not (alone and gaps and any(attrs.get("pads", ()))) or attrs.get("ceil_mode", 0):
        return stock(operator, bb, inputs, attrs, opset)
    (x,), counted = inputs, {**attrs, "count_include_pad": 1}
    dtype = str(x.ty.dtype)
    ones = bb.emit(relax.op.full(x.ty.shape, relax.const(1, dtype), dtype))
    means = [bb.emit(stock(operator, bb, [v], dict(counted), opset)) for v in (x, ones)]
    return relax.op.divide(*means)


def _windows(x: relax.Expr, rest: list, attrs: dict) -> list[_Window]:
    sizes = list(x.ty.shape)[2:]
    lengths = attrs.get("kernel_shape") or [int(size) for size in list(rest[0].ty.shape)[2:]]
    ones = [1] * len(sizes)
    steps, gaps = attrs.get("strides") or ones, attrs.get("dilations") or ones
    return [
        _Window(size, (int(length) - 1) * int(gap) + 1, int(step))
        for size, length, gap, step in zip(sizes, lengths, gaps, steps, strict=True)
    ]


def _sides(total: Size, how: str) -> tuple[Size, Size]:
    """Numbers before and after; the odd one goes where `how` says."""
    less, more = total // 2, total - total // 2
    return (less, more) if how == "SAME_UPPER" else (more, less)


def _copied(
    operator: str,
    bb: relax.BlockBuilder,
    inputs: list,
    attrs: dict,
    opset: int,
    sides: list[tuple[Size, Size]],
) -> relax.Expr:
    """Of a padded copy; the mean of a window counts what is in `x` alone."""
    x, *rest = inputs
    before, after = ([0, 0, *(pair[end] for pair in sides)] for end in (0, 1))
    dtype = str(x.ty.dtype)
    fill = tirx.min_value(dtype) if operator == "MaxPool" else tirx.const(0, dtype)
    if operator == "MaxPool" and dtype.startswith("float"):
        fill = tirx.const(float("-inf"), dtype)

    def pad(x: te.Tensor) -> te.Tensor:
        return topi.nn.pad(x, before, after, fill)

    def valid(x: relax.Expr) -> relax.Expr:
        padded = kernel(bb, pad, x, name="pad")
        return bb.normalize(stock(operator, bb, [padded, *rest], dict(attrs), opset))

    y = valid(x)
    if operator != "AveragePool" or attrs.get("count_include_pad", 0):
        return y
    inside = bb.emit(relax.op.full(x.ty.shape, relax.const(1, dtype), dtype))
    return relax.op.divide(y, bb.emit(valid(inside)))
