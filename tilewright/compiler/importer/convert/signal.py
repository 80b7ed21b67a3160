"""Converters of DFT, STFT and MelWeightMatrix.

    y[k] = sum over t of x[t] * exp(-2 pi i t k / n)

A transform of a known length is one matrix product with the cosines and sines as a constant; of
another one, a kernel with a table of them. Complex numbers are pairs along the last axis.
Source: https://onnx.ai/onnx/operators/onnx__DFT.html, onnx__STFT.html, onnx__MelWeightMatrix.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper
from tvm import relax, te, tirx
from tvm.ir import GenericConst, is_prim_expr
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.sizes import (
    Size,
    as_int64,
    from_start,
    is_computed,
    kernel,
    numbers,
    sizes_of,
    vector_of,
)
from tilewright.errors import UnsupportedModel

# The version that gets the axis as an input.
_AXIS_IS_INPUT = 20


@dataclass(frozen=True)
class _Transform:
    """What is transformed to what: which way, and whether one half of the spectrum is left out."""

    inverse: bool
    onesided: bool

    def length(self, size: Size) -> Size:
        """The length where none is given, of so many numbers."""
        return 2 * (size - 1) if self.inverse and self.onesided else size

    def results(self, length: Size) -> Size:
        """How many numbers a transform of `length` gives."""
        whole = self.inverse or not self.onesided
        return length if whole else tirx.floordiv(length, 2) + 1

    def read(self, size: Size, length: Size) -> Size:
        """How many of `size` numbers it reads."""
        half = self.inverse and self.onesided
        return tirx.min(size, tirx.floordiv(length, 2) + 1 if half else length)


def dft(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """DFT, since version 17."""
    x, length, axis = [*inputs, None, None][:3]
    rank = x.ty.ndim
    transform = _Transform(bool(attrs.get("inverse", 0)), bool(attrs.get("onesided", 0)))
    if opset < _AXIS_IS_INPUT:
        place = attrs.get("axis", 1)
    elif is_computed(axis):
        return _along_computed(bb, x, length, axis, transform)
    else:
        place = -2 if axis is None else int(axis.value.numpy().item())
    place %= rank
    size = x.ty.shape[place]
    points = transform.length(_plain(size)) if length is None else _number(bb, length, "length")
    return _along(bb, x, place, points, transform)


def _along_computed(
    bb: relax.BlockBuilder,
    x: relax.Expr,
    length: relax.Expr | None,
    axis: relax.Expr,
    transform: _Transform,
) -> relax.Expr:
    """Along each axis, and one result is taken; half of a spectrum is cut out of a whole."""
    if length is not None or (transform.inverse and transform.onesided):
        raise UnsupportedModel(
            "the axis is computed, and so is then the shape of what is transformed",
            expected="a constant axis where there is a length, or one half of a spectrum is given",
        )
    whole = _Transform(transform.inverse, False)
    wanted = bb.emit(relax.op.reshape(from_start(bb, axis, x.ty.ndim), [1]))
    y = _along(bb, x, 0, _plain(x.ty.shape[0]), whole)
    for place in range(1, x.ty.ndim - 1):
        other = _along(bb, x, place, _plain(x.ty.shape[place]), whole)
        y = bb.emit(relax.op.where(relax.op.equal(wanted, numbers(place)), other, y))
    if not transform.onesided:
        return y
    sizes = vector_of(bb, y)
    half = relax.op.add(relax.op.floor_divide(sizes, numbers(2)), numbers(1))
    here = relax.op.equal(numbers(range(y.ty.ndim)), wanted)
    cut = sizes_of(bb, bb.emit(relax.op.where(here, half, sizes)), "half")

    def first(y: te.Tensor, sizes: list[Size]) -> te.Tensor:
        return te.compute(sizes, lambda *at: y(*at), name="half")

    return kernel(bb, first, y, cut, name="half")


def stft(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """STFT, since version 17: frames of a signal, times a window, each transformed."""
    signal, step, window, length = [*inputs, None, None][:4]
    if signal.ty.ndim == 2:
        # The standard has an axis of real and imaginary parts. ONNX Runtime takes a signal without.
        signal = bb.emit(relax.op.expand_dims(signal, 2))
    shift = _number(bb, step, "step")
    if window is not None:
        points = _plain(window.ty.shape[0])
    else:
        points = _plain(signal.ty.shape[1]) if length is None else _number(bb, length, "length")
    count = tirx.floordiv(_plain(signal.ty.shape[1]) - points, shift) + 1

    def cut(x: te.Tensor, count: Size, points: Size, shift: Size, *window: te.Tensor) -> te.Tensor:
        def element(b: tirx.Var, frame: tirx.Var, t: tirx.Var, part: tirx.Var) -> tirx.Expr:
            value = x(b, frame * shift + t, part)
            return value * window[0](t) if window else value

        return te.compute((x.shape[0], count, points, x.shape[2]), element, name="frames")

    given = [] if window is None else [window]
    frames = kernel(bb, cut, signal, count, points, shift, *given, name="frames")
    return _along(bb, frames, 2, points, _Transform(False, bool(attrs.get("onesided", 1))))


def _plain(size: Size) -> Size:
    return int(size) if isinstance(size, IntImm) else size


def _number(bb: relax.BlockBuilder, value: relax.Expr, name: str) -> Size:
    """An integer that is given as a tensor."""
    if isinstance(value, GenericConst):
        return int(value.value.numpy().item())
    if is_prim_expr(value):
        return value
    (size,) = sizes_of(bb, as_int64(bb, bb.emit(relax.op.reshape(value, [1]))), name)
    return size


def _along(
    bb: relax.BlockBuilder, x: relax.Expr, axis: int, points: Size, transform: _Transform
) -> relax.Expr:
    """The transform of length `points` along an axis."""
    rank = x.ty.ndim
    order = [*(n for n in range(rank) if n not in (axis, rank - 1)), axis, rank - 1]
    rows = bb.emit(relax.op.permute_dims(x, order))
    known = all(isinstance(size, IntImm) for size in rows.ty.shape.values[-2:])
    multiply = _product if known and isinstance(points, int) else _summed
    y = multiply(bb, rows, points, transform)
    return bb.emit(relax.op.permute_dims(y, [int(n) for n in np.argsort(order)]))


def _product(
    bb: relax.BlockBuilder, rows: relax.Expr, points: int, transform: _Transform
) -> relax.Expr:
    *outer, size, parts = rows.ty.shape
    size, parts = int(size), int(parts)
    read, results = (
        int(value) for value in (transform.read(size, points), transform.results(points))
    )
    matrix = _matrix(read, results, points, transform)[:, :parts]
    if read < size:
        rows = bb.emit(relax.op.strided_slice(rows, [-2], [0], [read]))
    flat = bb.emit(relax.op.reshape(rows, relax.ShapeExpr([*outer, read * parts])))
    weight = relax.const(matrix.reshape(read * parts, -1).astype(str(rows.ty.dtype)))
    y = bb.emit(relax.op.matmul(flat, weight))
    return bb.emit(relax.op.reshape(y, relax.ShapeExpr([*outer, results, matrix.shape[-1]])))


def _matrix(read: int, results: int, points: int, transform: _Transform) -> np.ndarray:
    """[number read, its part, result, its part]: what one number adds to another, in float64."""
    # In whole numbers first: cosines of large angles are not exact.
    turns = np.outer(np.arange(read), np.arange(results)) % points
    angles = 2 * np.pi * turns / points
    cos, sin = np.cos(angles), np.sin(angles) * (1 if transform.inverse else -1)
    if not transform.inverse:
        return np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
    if not transform.onesided:
        return np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1) / points
    # The half that is not given is the mirror image of the other.
    own = np.arange(read)
    twice = np.where((own == 0) | (2 * own == points), 1.0, 2.0)[:, None]
    return np.stack([twice * cos, -twice * sin], 1)[..., None] / points


def _summed(
    bb: relax.BlockBuilder, rows: relax.Expr, points: Size, transform: _Transform
) -> relax.Expr:
    """As `_product`, of a length that is computed or open."""
    dtype, mirrored = str(rows.ty.dtype), transform.inverse and transform.onesided
    wide = "float64"

    def compute(x: te.Tensor, points: Size) -> te.Tensor:
        *outer, size, parts = x.shape
        read, results = transform.read(size, points), transform.results(points)

        def turn(n: tirx.Var, part: tirx.Var) -> tirx.Expr:
            angle = tirx.const(2 * math.pi, wide) * n.astype(wide) / points.astype(wide)
            return tirx.Select(part == 0, tirx.cos(angle), tirx.sin(angle))

        points = points if isinstance(points, tirx.Expr) else tirx.const(points, "int64")
        table = te.compute((points, 2), turn, name="turns")
        t = te.reduce_axis((0, read), "t")
        sign = 1.0 if transform.inverse else -1.0

        def element(*at: tirx.Var) -> tirx.Expr:
            *where, k, part = at
            place = tirx.floormod(t.astype("int64") * k.astype("int64"), points)
            cos, sin = table[place, 0], table[place, 1] * tirx.const(sign, wide)
            real = x(*where, t, 0).astype(wide)
            imaginary = x(*where, t, 1).astype(wide) if int(parts) == 2 else None
            a, b = real * cos, real * sin
            if imaginary is not None:
                a, b = a - imaginary * sin, b + imaginary * cos
            if mirrored:
                alone = tirx.any(t == 0, 2 * t == points)
                a = a * tirx.Select(alone, tirx.const(1.0, wide), tirx.const(2.0, wide))
                return te.sum(a, axis=t)
            return te.sum(tirx.Select(part == 0, a, b), axis=t)

        shape = [*outer, results, 1 if mirrored else 2]
        total = te.compute(shape, element, name="sums")
        over = points.astype(wide) if transform.inverse else tirx.const(1.0, wide)
        return te.compute(shape, lambda *at: (total(*at) / over).astype(dtype), name="dft")

    return kernel(bb, compute, rows, points, name="dft")


def mel_weight_matrix(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """MelWeightMatrix, since version 17: triangles, evenly spaced on a mel scale."""
    bins, length, rate, low, high = inputs
    kind = int(attrs.get("output_datatype", TensorProto.FLOAT))
    dtype, wide = str(helper.tensor_dtype_to_np_dtype(kind)), "float64"
    count, points = _number(bb, bins, "bins"), _number(bb, length, "length")
    numbers_ = [bb.emit(relax.op.astype(value, wide)) for value in (rate, low, high)]
    scale = 2595.0 / math.log(10.0)

    def compute(
        rate: te.Tensor, low: te.Tensor, high: te.Tensor, count: Size, points: Size
    ) -> te.Tensor:
        def mel(hertz: tirx.Expr) -> tirx.Expr:
            return tirx.log(hertz / 700.0 + 1.0) * scale

        def place(n: tirx.Var) -> tirx.Expr:
            step = (mel(high()) - mel(low())) / _wide(count + 2)
            hertz = (tirx.exp((_wide(n) * step + mel(low())) / scale) - 1.0) * 700.0
            return tirx.floor(_wide(points + 1) * hertz / rate()).astype("int64")

        places = te.compute((count + 2,), place, name="places")

        def weight(j: tirx.Var, n: tirx.Var) -> tirx.Expr:
            left, centre, right = places[n], places[n + 1], places[n + 2]
            falls = _wide(right - j) / _wide(tirx.max(right - centre, 1))
            rises = _wide(j - left) / _wide(tirx.max(centre - left, 1))
            rises = tirx.Select(left == centre, _wide(1), rises)
            up = tirx.Select(tirx.all(j >= left, j <= centre), rises, _wide(0))
            return tirx.Select(tirx.all(j >= centre, j < right), falls, up).astype(dtype)

        return te.compute((tirx.floordiv(points, 2) + 1, count), weight, name="mel")

    return kernel(bb, compute, *numbers_, count, points, name="mel")


def _wide(value: Size) -> tirx.Expr:
    return value.astype("float64") if isinstance(value, tirx.Expr) else tirx.const(value, "float64")
