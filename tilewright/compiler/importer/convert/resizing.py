"""The converter of Resize where sizes, scales or the region are computed.

One axis after the other, each number of the result from its neighbours in x:

    y[o] = sum over t of weight(o, t) * x[clamp(floor(position(o)) + t)]

Positions are computed in float64, so that what lies half way is seen to.
Source: https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import relax, te, tirx

from tilewright.compiler.importer.convert.sizes import (
    Size,
    as_int64,
    is_computed,
    kernel,
    numbers,
    sizes_of,
    vector_of,
)
from tilewright.errors import UnsupportedModel

_WIDE = "float64"
# How far the weights of a kernel reach.
_REACH = {"nearest": 0, "linear": 1, "cubic": 2}


def resize(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Resize, since version 11."""
    return _Resize(bb, inputs, {name: _plain(value) for name, value in attrs.items()}).whole()


@dataclass(frozen=True)
class _Axis:
    """One axis: its number, sizes before and after, and the tensors that say how they relate."""

    number: int
    before: Size
    after: Size
    scale: Callable[[], tirx.Expr]
    region: tuple[Callable[[], tirx.Expr], Callable[[], tirx.Expr]] | None


class _Resize:
    def __init__(self, bb: relax.BlockBuilder, inputs: list, attrs: dict) -> None:
        self._bb, self._attrs = bb, attrs
        self._x, roi, scales, sizes = [*inputs, None, None, None][:4]
        rank = self._x.ty.ndim
        self._axes = [axis % rank for axis in attrs.get("axes") or range(rank)]
        self._mode = attrs.get("mode", "nearest")
        self._how = attrs.get("coordinate_transformation_mode", "half_pixel")
        if self._mode not in _REACH:
            raise UnsupportedModel(f"the mode {self._mode}", expected=", ".join(_REACH))
        self._roi = roi if self._how == "tf_crop_and_resize" else None
        if self._roi is not None:
            self._roi = bb.emit(relax.op.astype(self._roi, _WIDE))
        own = bb.emit(relax.op.take(vector_of(bb, self._x), numbers(self._axes), 0))
        self._own = bb.emit(relax.op.astype(own, _WIDE))
        self._scales, after = self._relation(scales, sizes)
        self._after = sizes_of(bb, after, "resized")

    def _relation(
        self, scales: relax.Expr | None, sizes: relax.Expr | None
    ) -> tuple[relax.Expr, relax.Expr]:
        """The scale of each axis, and its size afterwards."""
        bb = self._bb
        if sizes is None or (is_computed(scales) and int(scales.ty.shape[0]) > 0):
            # The size is that of ONNX's shape inference, which multiplies in float32.
            own = relax.op.astype(self._own, "float32")
            after = relax.op.floor(relax.op.multiply(own, scales))
            factor = bb.emit(relax.op.astype(scales, _WIDE))
            return factor, bb.emit(relax.op.astype(after, "int64"))
        sizes = as_int64(bb, sizes)
        factor = bb.emit(relax.op.divide(relax.op.astype(sizes, _WIDE), self._own))
        policy = self._attrs.get("keep_aspect_ratio_policy", "stretch")
        if policy == "stretch":
            return factor, sizes
        one = relax.op.min(factor) if policy == "not_larger" else relax.op.max(factor)
        factor = bb.emit(relax.op.multiply(relax.op.ones_like(factor), one))
        half = relax.const(0.5, _WIDE)
        after = relax.op.floor(relax.op.add(relax.op.multiply(self._own, factor), half))
        return factor, bb.emit(relax.op.astype(after, "int64"))

    def whole(self) -> relax.Expr:
        """All axes, one after the other."""
        bb, dtype = self._bb, str(self._x.ty.dtype)
        y = self._x
        exact = self._mode == "nearest" and self._roi is None
        if not exact and dtype != "float32":
            y = bb.emit(relax.op.astype(y, "float32"))
        foot = self._footprints() if self._attrs.get("antialias", 0) else None
        for place, number in enumerate(self._axes):
            y = self._along(y, place, number, foot and foot[place])
        return y if exact or dtype == "float32" else relax.op.astype(y, dtype)

    def _footprints(self) -> list[Size]:
        """How many neighbours count for one number of the result: more where it gets smaller."""
        bb, reach = self._bb, relax.const(float(_REACH[self._mode]), _WIDE)
        less = relax.op.minimum(self._scales, relax.const(1.0, _WIDE))
        start = relax.op.floor(relax.op.divide(relax.op.negative(reach), less))
        # From start + 1 to -start, both included.
        count = relax.op.multiply(relax.op.astype(start, "int64"), numbers(-2))
        return sizes_of(bb, bb.emit(count), "neighbours")

    def _along(self, y: relax.Expr, place: int, number: int, foot: Size | None) -> relax.Expr:
        roi = [] if self._roi is None else [self._roi]

        def compute(
            x: te.Tensor, scales: te.Tensor, after: Size, foot: Size, *roi: te.Tensor
        ) -> te.Tensor:
            region = None
            if roi:
                count = len(self._axes)
                region = (lambda: roi[0][place], lambda: roi[0][count + place])
            axis = _Axis(number, x.shape[number], after, lambda: scales[place], region)
            return self._resized(x, axis, foot)

        foot = tirx.const(0, "int64") if foot is None else foot
        after = self._after[place]
        return kernel(self._bb, compute, y, self._scales, after, foot, *roi, name="resize")

    def _resized(self, x: te.Tensor, axis: _Axis, foot: Size) -> te.Tensor:
        shape = [axis.after if n == axis.number else size for n, size in enumerate(x.shape)]

        def neighbour(at: tuple, i: tirx.Expr) -> tirx.Expr:
            inside = tirx.max(tirx.min(i, axis.before - 1), tirx.const(0, "int64"))
            return x(*(inside if n == axis.number else a for n, a in enumerate(at)))

        def outside(at: tuple, value: tirx.Expr) -> tirx.Expr:
            if axis.region is None:
                return value
            position = self._position(at[axis.number], axis)
            beyond = tirx.any(position < 0, position > _wide(axis.before - 1))
            other = tirx.const(float(self._attrs.get("extrapolation_value", 0.0)), x.dtype)
            return tirx.Select(beyond, other, value)

        if self._mode == "nearest":
            return te.compute(
                shape,
                lambda *at: outside(at, neighbour(at, self._nearest(at[axis.number], axis))),
                name="nearest",
            )
        antialias = bool(self._attrs.get("antialias", 0))
        reach = _REACH[self._mode]

        def taps(at: tuple) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
            """The neighbour before the position, how far beyond it that is, and the scale."""
            position = self._position(at[axis.number], axis)
            first = tirx.floor(position)
            less = tirx.min(axis.scale(), tirx.const(1.0, _WIDE))
            one = tirx.const(1.0, _WIDE)
            return first.astype("int64"), position - first, less if antialias else one

        def weight(at: tuple, t: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
            first, ratio, less = taps(at)
            start = tirx.floor(_wide(-reach) / less).astype("int64") + 1 if antialias else 1 - reach
            i = first + start + t
            value = self._kernel((_wide(start + t) - ratio) * less)
            if self._attrs.get("exclude_outside", 0):
                value = tirx.Select(tirx.any(i < 0, i >= axis.before), _wide(0), value)
            return value, i

        if not antialias:

            def element(*at: tirx.Var) -> tirx.Expr:
                pairs = [weight(at, tirx.const(t, "int64")) for t in range(2 * reach)]
                total = sum((w for w, _ in pairs), _wide(0))
                value = sum((w / total * _wide(neighbour(at, i)) for w, i in pairs), _wide(0))
                return outside(at, value.astype(x.dtype))

            return te.compute(shape, element, name="resize")
        t = te.reduce_axis((0, foot), "t")

        def weighed(*at: tirx.Var) -> tirx.Expr:
            w, i = weight(at, t)
            return te.sum(w * _wide(neighbour(at, i)), axis=t)

        u = te.reduce_axis((0, foot), "u")
        sums = te.compute(shape, weighed, name="sums")
        totals = te.compute(shape, lambda *at: te.sum(weight(at, u)[0], axis=u), name="totals")
        return te.compute(
            shape,
            lambda *at: outside(at, (sums(*at) / totals(*at)).astype(x.dtype)),
            name="resize",
        )

    def _kernel(self, distance: tirx.Expr) -> tirx.Expr:
        """The weight of a neighbour at a distance: a triangle, or Keys' cubic."""
        d, one = tirx.abs(distance), _wide(1)
        if self._mode == "linear":
            return tirx.max(one - d, _wide(0))
        a = tirx.const(float(self._attrs.get("cubic_coeff_a", -0.75)), _WIDE)
        near = ((a + 2) * d - (a + 3)) * d * d + one
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return tirx.Select(d <= one, near, tirx.Select(d < _wide(2), far, _wide(0)))

    def _nearest(self, o: tirx.Var, axis: _Axis) -> tirx.Expr:
        position, half = self._position(o, axis), tirx.const(0.5, _WIDE)
        how = self._attrs.get("nearest_mode", "round_prefer_floor")
        found = {
            "floor": lambda: tirx.floor(position),
            "ceil": lambda: tirx.ceil(position),
            "round_prefer_floor": lambda: tirx.ceil(position - half),
            "round_prefer_ceil": lambda: tirx.floor(position + half),
        }
        return found[how]().astype("int64")

    def _position(self, o: tirx.Var, axis: _Axis) -> tirx.Expr:
        """Where in x the number `o` of the result lies."""
        at, half, scale = _wide(o), tirx.const(0.5, _WIDE), axis.scale()
        before, after = _wide(axis.before), _wide(axis.after)
        centred = (at + half) / scale - half
        # Of a scale that was given, the size before it was rounded down.
        last, gaps = before - _wide(1), scale * before - _wide(1)
        gaps = tirx.Select(gaps > _wide(0), gaps, _wide(1))
        if self._how == "half_pixel":
            return centred
        if self._how == "half_pixel_symmetric":
            return before / _wide(2) * (_wide(1) - after / (scale * before)) + centred
        if self._how == "pytorch_half_pixel":
            return tirx.Select(axis.after > 1, centred, _wide(0))
        if self._how == "align_corners":
            return at * last / gaps
        if self._how == "asymmetric":
            return at / scale
        if self._how == "tf_crop_and_resize" and axis.region is not None:
            start, end = (side() for side in axis.region)
            spread = start * last + at * (end - start) * last / gaps
            return tirx.Select(axis.after > 1, spread, half * (start + end) * last)
        raise UnsupportedModel(f"coordinate_transformation_mode {self._how}")


def _wide(value: tirx.Expr | int) -> tirx.Expr:
    if isinstance(value, int):
        return tirx.const(float(value), _WIDE)
    return value.astype(_WIDE)


def _plain(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
