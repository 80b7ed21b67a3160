"""Converters of operators on places of an image: AffineGrid, Col2Im and DeformConv.

Source: https://onnx.ai/onnx/operators/onnx__AffineGrid.html, onnx__Col2Im.html,
onnx__DeformConv.html
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tvm import relax, te, tirx
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.sizes import Size, as_int64, kernel, sizes_of
from tilewright.errors import UnsupportedModel


def affine_grid(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """AffineGrid, since version 20: for each place of an image, where an affine map sends it."""
    theta, shape = inputs
    sizes = _sizes(bb, shape, "grid")[2:]
    corners = bool(attrs.get("align_corners", 0))

    def compute(theta: te.Tensor, sizes: list[Size]) -> te.Tensor:
        dtype = theta.dtype

        def place(i: tirx.Var, size: Size) -> tirx.Expr:
            """From -1 to 1: the middles of the first and last element, or their outer edges."""
            at = tirx.Cast(dtype, i)
            if corners:
                gaps = tirx.Cast(dtype, tirx.max(size - 1, tirx.const(1, "int64")))
                return at * 2.0 / gaps - 1.0
            return (at * 2.0 + 1.0) / tirx.Cast(dtype, size) - 1.0

        def element(n: tirx.Var, *at: tirx.Var) -> tirx.Expr:
            *where, row = at
            # The last axis of the image is the first coordinate.
            places = [place(i, size) for i, size in zip(where, sizes, strict=True)][::-1]
            moved = (theta[n, row, column] * x for column, x in enumerate(places))
            return sum(moved, theta[n, row, len(sizes)])

        sizes = [tirx.const(s, "int64") if isinstance(s, int) else s for s in sizes]
        return te.compute((theta.shape[0], *sizes, len(sizes)), element, name="affine_grid")

    return kernel(bb, compute, theta, sizes, name="affine_grid")


def col2im(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Col2Im, since version 18: blocks, put where they were cut out, and added up."""
    x, image, block = inputs
    image, block = _sizes(bb, image, "image"), _sizes(bb, block, "block")
    rank = len(image)
    strides, dilations = (list(attrs.get(name, [1] * rank)) for name in ("strides", "dilations"))
    pads = list(attrs.get("pads", [0] * 2 * rank))

    def compute(x: te.Tensor, image: list[Size], block: list[Size]) -> te.Tensor:
        def count(n: int) -> Size:
            room = image[n] + pads[n] + pads[n + rank] - dilations[n] * (block[n] - 1) - 1
            return tirx.floordiv(room, strides[n]) + 1

        counts = [count(n) for n in range(rank)]
        channels = tirx.floordiv(x.shape[1], math.prod(block))
        inner = [te.reduce_axis((0, size), f"k{n}") for n, size in enumerate(block)]

        def element(batch: tirx.Var, channel: tirx.Var, *at: tirx.Var) -> tirx.Expr:
            row, column, inside = channel, tirx.const(0, "int64"), []
            for n, (i, k) in enumerate(zip(at, inner, strict=True)):
                start = i + pads[n] - k * dilations[n]
                number = tirx.floordiv(start, strides[n])
                inside += [start >= 0, tirx.floormod(start, strides[n]) == 0, number < counts[n]]
                row, column = row * block[n] + k, column * counts[n] + number
            value = tirx.if_then_else(
                tirx.all(*inside), x[batch, row, column], tirx.const(0, x.dtype)
            )
            return te.sum(value, axis=inner)

        return te.compute((x.shape[0], channels, *image), element, name="col2im")

    return kernel(bb, compute, x, image, block, name="col2im")


def deform_conv(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """DeformConv, since version 19: sampled columns, then a matrix product for each group.

    Between four elements (of an image) the value is linear; outside, elements are 0.
    """
    x, w, offset, bias, mask = [*inputs, None, None][:5]
    rank = x.ty.ndim - 2
    filters, own, *window = (_known(size) for size in w.ty.shape)
    groups, offset_groups = attrs.get("group", 1), attrs.get("offset_group", 1)
    strides, dilations = (list(attrs.get(name, [1] * rank)) for name in ("strides", "dilations"))
    pads = list(attrs.get("pads", [0] * 2 * rank))
    places = math.prod(window)

    def compute(x: te.Tensor, offset: te.Tensor, *mask: te.Tensor) -> te.Tensor:
        shared = _known(x.shape[1]) // offset_groups

        def element(n: tirx.Var, channel: tirx.Var, place: tirx.Var, *at: tirx.Var) -> tirx.Expr:
            number = tirx.floordiv(channel, shared) * places + place
            steps, left = [], place
            for size in reversed(window):
                steps.insert(0, tirx.floormod(left, size))
                left = tirx.floordiv(left, size)
            positions = [
                tirx.Cast(x.dtype, at[d] * strides[d] - pads[d] + steps[d] * dilations[d])
                + offset(n, number * rank + d, *at)
                for d in range(rank)
            ]
            value = _between(x, [n, channel], positions)
            return value * mask[0](n, number, *at) if mask else value

        shape = (x.shape[0], x.shape[1], places, *offset.shape[2:])
        return te.compute(shape, element, name="columns")

    given = [] if mask is None else [mask]
    columns = kernel(bb, compute, x, offset, *given, name="deform_columns")
    batch, sizes = x.ty.shape[0], list(offset.ty.shape)[2:]
    grouped = [batch, groups, own * places, math.prod(sizes)]
    columns = bb.emit(relax.op.reshape(columns, relax.ShapeExpr(grouped)))
    weights = bb.emit(relax.op.reshape(w, [1, groups, filters // groups, own * places]))
    y = bb.emit(relax.op.matmul(weights, columns))
    y = bb.emit(relax.op.reshape(y, relax.ShapeExpr([batch, filters, *sizes])))
    if bias is None:
        return y
    return relax.op.add(y, bb.emit(relax.op.reshape(bias, [1, filters, *[1] * rank])))


def _between(x: te.Tensor, at: Sequence, positions: Sequence[tirx.Expr]) -> tirx.Expr:
    """The value of x at positions along its last axes that are no whole numbers."""
    zero, one = tirx.const(0, x.dtype), tirx.const(1, x.dtype)
    total = zero
    for corner in itertools.product((0, 1), repeat=len(positions)):
        weight, inside, where = one, [], []
        for axis, (position, step) in enumerate(zip(positions, corner, strict=True)):
            below = tirx.floor(position)
            ratio = position - below
            i, size = tirx.Cast("int64", below) + step, x.shape[len(at) + axis]
            weight = weight * (ratio if step else one - ratio)
            inside += [i >= 0, i < size]
            where.append(i)
        total = total + tirx.if_then_else(tirx.all(*inside), x(*at, *where), zero) * weight
    return total


def _sizes(bb: relax.BlockBuilder, value: relax.Expr, name: str) -> list[Size]:
    if isinstance(value, relax.ShapeExpr):
        return list(value.values)
    return sizes_of(bb, as_int64(bb, value), name)


def _known(size: tirx.Expr) -> int:
    if not isinstance(size, IntImm):
        raise UnsupportedModel(
            "how many channels there are, or how large the window is, is open",
            expected="batch and image alone",
            hint="fix the open dimensions with --dim or --shape",
        )
    return int(size)
