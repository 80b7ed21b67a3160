"""The converters of Resize and Upsample; sizes, scales and the region may be computed.

One axis after the other (`interpolation`). What is common is left to TVM, which takes both in one
step: `_is_common`.
Source: https://onnx.ai/onnx/operators/onnx__Resize.html, onnx__Upsample.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm_ffi
from tvm import relax, te, tirx, topi
from tvm.ir import GenericConst
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.interpolation import REACH, WIDE, Axis, Interpolation
from tilewright.compiler.importer.convert.sizes import (
    Size,
    as_int64,
    is_computed,
    kernel,
    sizes_of,
)
from tilewright.compiler.importer.graph import text
from tilewright.errors import UnsupportedModel

_COMMON = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")


def resize(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Resize, since version 10, which knew one way to place the numbers."""
    attrs = {name: text(value) for name, value in attrs.items()}
    if opset < 11:
        return upsample(bb, inputs, attrs, opset)
    return _Resize(bb, inputs, attrs).whole()


def upsample(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Upsample, of which the first Resize differs in its name; scales were an attribute before."""
    x, *rest = inputs
    given = rest[0] if rest else relax.const(np.float32(attrs["scales"]), "float32")
    mode = text(attrs.get("mode", "nearest"))
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "simple"}
    return _Resize(bb, [x, None, given], {"mode": mode, **how}).whole()


class _Resize:
    def __init__(self, bb: relax.BlockBuilder, inputs: list, attrs: dict) -> None:
        self._bb, self._attrs = bb, attrs
        self._x, roi, scales, sizes = [*inputs, None, None, None][:4]
        rank = self._x.ty.ndim
        self._axes = [axis % rank for axis in attrs.get("axes") or range(rank)]
        self._mode = {"bilinear": "linear"}.get(mode := attrs.get("mode", "nearest"), mode)
        self._how = attrs.get("coordinate_transformation_mode", "half_pixel")
        if self._mode not in REACH:
            raise UnsupportedModel(f"the mode {self._mode}", expected=", ".join(REACH))
        self._roi = roi if self._how == "tf_crop_and_resize" else None
        if self._roi is not None:
            self._roi = bb.emit(relax.op.astype(self._roi, WIDE))
        self._own = [self._x.ty.shape[axis] for axis in self._axes]
        self._given = None if _is_empty(scales) else scales
        self._sizes = None if self._given is not None else sizes
        # Which functions to compute with: of numbers that are known, or of tensors.
        self._known = _is_known(self._given, self._sizes, self._own)
        self._scales, self._after = self._relation()

    def _relation(self) -> tuple[Any, list[Size]]:
        """The scale of each axis, and its size afterwards."""
        own = self._vector(relax.ShapeExpr(self._own)).astype(WIDE)
        if self._given is not None:
            # The size is that of ONNX's shape inference, which multiplies in float32.
            scales = self._vector(self._given)
            if self._known and not (np.isfinite(scales) & (scales > 0)).all():
                shown = ", ".join(f"{scale:g}" for scale in scales)
                raise UnsupportedModel(f"the scales {shown}", expected="finite ones above 0")
            factor = self._kept(scales.astype(WIDE))
            after = self._multiples()
            if after is None:
                after = self._numbers(self._call("floor", own.astype("float32") * scales))
            return factor, after
        sizes = self._vector(self._sizes)
        factor = self._kept(sizes.astype(WIDE) / own)
        policy = self._attrs.get("keep_aspect_ratio_policy", "stretch")
        if policy == "stretch":
            if isinstance(self._sizes, relax.ShapeExpr):
                return factor, list(self._sizes.values)
            return factor, self._numbers(sizes)
        one = self._call("min" if policy == "not_larger" else "max", factor)
        factor = self._kept(self._call("ones_like", factor) * one)
        after = self._call("floor", own * factor + self._number(0.5))
        return factor, self._numbers(after)

    def _multiples(self) -> list[Size] | None:
        """The sizes afterwards, where each scale is a whole number; they stay known multiples."""
        if not isinstance(self._given, GenericConst):
            return None
        scales = self._given.value.numpy()
        if not np.equal(scales, np.round(scales)).all():
            return None
        return [size * int(scale) for size, scale in zip(self._own, scales, strict=True)]

    def _vector(self, value: relax.Expr) -> Any:
        """Sizes or scales, to compute with."""
        if isinstance(value, relax.ShapeExpr):
            sizes = list(value.values)
            if self._known:
                return np.array([int(size) for size in sizes])
            return self._bb.emit(relax.op.shape_to_tensor(value))
        return value.value.numpy() if self._known else value

    def _number(self, value: float) -> Any:
        return np.float64(value) if self._known else relax.const(value, WIDE)

    def _call(self, name: str, *values: Any) -> Any:
        return getattr(np if self._known else relax.op, name)(*values)

    def _kept(self, value: Any) -> Any:
        return value if self._known else self._bb.emit(value)

    def _numbers(self, vector: Any) -> list[Size]:
        if self._known:
            return [int(value) for value in vector]
        if not isinstance(vector, GenericConst):
            vector = as_int64(self._bb, self._bb.emit(vector))
        return sizes_of(self._bb, vector, "resized")

    def whole(self) -> relax.Expr:
        """All axes, one after the other."""
        if self._is_common():
            return self._common()
        bb, dtype = self._bb, str(self._x.ty.dtype)
        y = self._x
        exact = self._mode == "nearest" and self._roi is None
        if not exact and dtype != "float32":
            y = bb.emit(relax.op.astype(y, "float32"))
        foot = self._footprints() if self._attrs.get("antialias", 0) else None
        if self._known:
            self._scales = relax.const(self._scales, WIDE)
        for place, number in enumerate(self._axes):
            if self._stays(place) and self._roi is None:
                continue
            y = self._along(y, place, number, foot and foot[place])
        return y if exact or dtype == "float32" else relax.op.astype(y, dtype)

    def _stays(self, place: int) -> bool:
        """Whether it is known that an axis keeps its size, and each number its place."""
        if isinstance(self._given, GenericConst):
            return float(self._given.value.numpy()[place]) == 1.0
        stretched = self._attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        own, after = (_plain(sizes[place]) for sizes in (self._own, self._after))
        same = own == after if isinstance(own, int) else tvm_ffi.structural_equal(own, after)
        return stretched and same

    def _ratio(self, place: int) -> float | None:
        """The scale of an axis where TVM's, the ratio of the sizes, is the same."""
        own, after = self._own[place], self._after[place]
        if isinstance(self._given, GenericConst):
            scale = float(self._given.value.numpy()[place])
            whole = scale == round(scale)
            return scale if whole or (self._known and int(own) * scale == int(after)) else None
        return int(after) / int(own) if self._known else 0.0

    def _is_common(self) -> bool:
        """Whether TVM does the same: spatial axes alone, in the usual ways.

        Its float32 positions would be on the wrong side of half way, but where the scale of nearest
        neighbours is a whole number. Between neighbours of open sizes they are as wrong as the
        sizes are large, but where numbers are halved.
        """
        attrs, rank = self._attrs, self._x.ty.ndim
        special = self._roi is not None or self._how not in _COMMON
        special = special or attrs.get("antialias", 0) or attrs.get("exclude_outside", 0)
        stretched = attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch"
        if special or not stretched or not 3 <= rank <= 5 or is_computed(self._given):
            return False
        is_open = not _is_known(list(self._x.ty.shape)[2:])
        # Even of an open axis that stays as it is.
        if is_open and self._mode != "nearest" and not self._is_halved(1.0, rank):
            return False
        for place, axis in enumerate(self._axes):
            if self._stays(place):
                continue
            ratio, after = self._ratio(place), self._after[place]
            if axis < 2 or ratio is None:
                return False
            if self._mode == "nearest":
                if not self._is_multiple(ratio):
                    return False
            elif not (_is_known([self._own[place], after]) or self._is_halved(ratio, rank)):
                return False
        return self._how != "align_corners" or self._has_corners()

    def _has_corners(self) -> bool:
        """Whether each axis of the result has two ends, known to be apart: TVM divides by that."""
        sizes = dict(enumerate(self._x.ty.shape)) | dict(zip(self._axes, self._after, strict=True))
        spatial = [size for axis, size in sizes.items() if axis >= 2]
        return all(isinstance(size, IntImm | int) and int(size) > 1 for size in spatial)

    def _is_multiple(self, ratio: float) -> bool:
        """Whether nearest neighbours at this scale are never half way between two."""
        floors = self._attrs.get("nearest_mode", "round_prefer_floor") in ("floor", "simple")
        fits = self._how in ("half_pixel", "pytorch_half_pixel")
        fits = fits or (self._how == "asymmetric" and floors)
        return fits and ratio >= 1 and ratio == round(ratio)

    def _is_halved(self, ratio: float, rank: int) -> bool:
        """Whether float32 positions are exact at this scale; of an open row TVM has none.

        Without an offset its code generation fails on them.
        """
        power = ratio >= 1 and math.log2(ratio).is_integer()
        return rank > 3 and power and self._how not in ("align_corners", "asymmetric")

    def _common(self) -> relax.Expr:
        """The same as one of TVM's operators."""
        x = self._x
        sizes = list(x.ty.shape)
        for axis, after in zip(self._axes, self._after, strict=True):
            sizes[axis] = after
        region = [0.0] * (2 * (len(sizes) - 2))
        how = self._attrs.get("nearest_mode", "round_prefer_floor")
        rest = (
            "nearest_neighbor" if self._mode == "nearest" else self._mode,
            self._how,
            "floor" if how == "simple" else how,
            self._attrs.get("cubic_coeff_a", -0.75),
        )
        if len(sizes) == 3:
            resized = topi.image.resize1d
            return self._bb.emit_te(resized, x, region, sizes[2:], "NCW", *rest)
        size = relax.ShapeExpr(sizes[2:])
        if len(sizes) == 4:
            return relax.op.image.resize2d(x, size, region, "NCHW", *rest)
        return relax.op.image.resize3d(x, size, region, "NCDHW", *rest)

    def _footprints(self) -> list[Size]:
        """How many neighbours count for one number of the result: more where it gets smaller."""
        less = self._call("minimum", self._scales, self._number(1.0))
        start = self._call("floor", self._number(-float(REACH[self._mode])) / less)
        # From start + 1 to -start, both included.
        return self._numbers(start * self._number(-2.0))

    def _along(self, y: relax.Expr, place: int, number: int, foot: Size | None) -> relax.Expr:
        roi = [] if self._roi is None else [self._roi]
        interpolation = Interpolation(self._mode, self._how, self._attrs)

        def compute(
            x: te.Tensor, scales: te.Tensor, after: Size, foot: Size, *roi: te.Tensor
        ) -> te.Tensor:
            region = None
            if roi:
                count = len(self._axes)
                region = (lambda: roi[0][place], lambda: roi[0][count + place])
            axis = Axis(number, x.shape[number], after, lambda: scales[place], region)
            return interpolation.along(x, axis, foot)

        foot = tirx.const(0, "int64") if foot is None else foot
        after = self._after[place]
        return kernel(self._bb, compute, y, self._scales, after, foot, *roi, name="resize")


def _plain(size: Size) -> Size:
    return int(size) if isinstance(size, IntImm) else size


def _is_empty(value: relax.Expr | None) -> bool:
    """Whether nothing is given, or a vector without numbers."""
    if value is None or isinstance(value, relax.ShapeExpr):
        return value is None
    return value.ty.shape is not None and value.ty.shape[0] == 0


def _is_known(*values: relax.Expr | Sequence[tirx.Expr] | None) -> bool:
    """Whether none of the values is computed at run time; those that are not given are not."""

    def is_known(value: Any) -> bool:
        sizes = value.values if isinstance(value, relax.ShapeExpr) else value
        if sizes is None or isinstance(sizes, GenericConst):
            return True
        return not isinstance(sizes, relax.Expr) and all(isinstance(s, IntImm | int) for s in sizes)

    return all(map(is_known, values))
