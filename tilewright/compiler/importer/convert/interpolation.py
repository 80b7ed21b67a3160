"""The kernel that resizes along one axis: each number of the result from its neighbours in x.

    y[o] = sum over t of weight(o, t) * x[clamp(floor(position(o)) + t)]

Positions are computed in float64, so that what lies half way is seen to.
Source: https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from tilewright.compiler.importer.convert.sizes import Size
from tilewright.errors import UnsupportedModel

WIDE = "float64"
# How far the weights of a kernel reach.
REACH = {"nearest": 0, "linear": 1, "cubic": 2}


@dataclass(frozen=True)
class Axis:
    """One axis: its number, sizes before and after, and the tensors that say how they relate."""

    number: int
    before: Size
    after: Size
    scale: Callable[[], tirx.Expr]
    region: tuple[Callable[[], tirx.Expr], Callable[[], tirx.Expr]] | None


class Interpolation:
    """One way to interpolate: a mode of REACH, and the attributes of Resize."""

    def __init__(self, mode: str, how: str, attrs: Mapping[str, Any]) -> None:
        """`how` is the coordinate_transformation_mode."""
        self._mode, self._how, self._attrs = mode, how, attrs

    def along(self, x: te.Tensor, axis: Axis, foot: Size) -> te.Tensor:
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
        reach = REACH[self._mode]

        def taps(at: tuple) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
            """The neighbour before the position, how far beyond it that is, and the scale."""
            position = self._position(at[axis.number], axis)
            first = tirx.floor(position)
            less = tirx.min(axis.scale(), tirx.const(1.0, WIDE))
            one = tirx.const(1.0, WIDE)
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
        a = tirx.const(float(self._attrs.get("cubic_coeff_a", -0.75)), WIDE)
        near = ((a + 2) * d - (a + 3)) * d * d + one
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return tirx.Select(d <= one, near, tirx.Select(d < _wide(2), far, _wide(0)))

    def _nearest(self, o: tirx.Var, axis: Axis) -> tirx.Expr:
        position, half = self._position(o, axis), tirx.const(0.5, WIDE)
        how = self._attrs.get("nearest_mode", "round_prefer_floor")
        found = {
            "floor": lambda: tirx.floor(position),
            "ceil": lambda: tirx.ceil(position),
            "round_prefer_floor": lambda: tirx.ceil(position - half),
            "round_prefer_ceil": lambda: tirx.floor(position + half),
            # Before there was a choice.
            "simple": lambda: tirx.Select(
                axis.scale() < tirx.const(1.0, WIDE), tirx.ceil(position), tirx.floor(position)
            ),
        }
        return found[how]().astype("int64")

    def _position(self, o: tirx.Var, axis: Axis) -> tirx.Expr:
        """Where in x the number `o` of the result lies."""
        at, half, scale = _wide(o), tirx.const(0.5, WIDE), axis.scale()
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
        return tirx.const(float(value), WIDE)
    return value.astype(WIDE)
