"""Convolutions over three axes, channels last, as products whose rows are windows of the input.

    out[n, od, oh, ow, :] = sum over kd, kh, (kw, ic) of
        x[n, od s + kd, oh s + kh, ow s + kw, ic] * w[kd, kh, (kw, ic), :]

As of two axes (`conv`): for one kd and kh the elements of a window lie side by side, and where the
convolution pads, x is copied once into a larger array with zeros around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec
from tilewright.targets.rules import conv
from tilewright.targets.rules.blocking import default_blocking
from tilewright.targets.rules.contraction import Product, contraction
from tilewright.targets.rules.epilogue import Epilogue
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Rule
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Index,
    Kernel,
    branch,
    copy,
    fill,
    index,
    loop,
    seq,
    worth_threads,
)
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target


@dataclass(frozen=True)
class _Volume:
    """Sizes of such a convolution, three to a tuple: depth, height, width."""

    spec: ConvSpec

    @property
    def begins(self) -> tuple[int, ...]:
        return self.spec.padding[:3]

    @property
    def size(self) -> tuple[int, ...]:
        return self.spec.x[2:]

    @property
    def padded(self) -> tuple[int, ...]:
        ends = self.spec.padding[3:]
        return tuple(a + b + c for a, b, c in zip(self.size, self.begins, ends, strict=True))

    @property
    def out(self) -> tuple[int, ...]:
        spec = self.spec
        return tuple(
            (size - (kernel - 1) * dilation - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                self.padded, spec.w[2:], spec.strides, spec.dilation, strict=True
            )
        )

    def window(self, position: Index) -> Index:
        """Where the window of an output begins in an x that needs no padding."""
        (od, oh, ow), (deep, tall, wide) = self.out, self.padded
        sd, sh, sw = self.spec.strides
        line, column = tirx.floordiv(position, ow), tirx.floormod(position, ow)
        plane, row = tirx.floordiv(line, oh), tirx.floormod(line, oh)
        image, depth = tirx.floordiv(plane, od), tirx.floormod(plane, od)
        at = (image * deep + depth * sd) * tall + row * sh
        return (at * wide + column * sw) * self.spec.x[1]

    @property
    def windows(self) -> Reduction:
        """What is summed over, seen from where a window begins."""
        (kd, kh, kw), (dd, dh, dw) = self.spec.w[2:], self.spec.dilation
        (_, tall, wide), c = self.padded, self.spec.x[1]

        def line(j: tirx.Expr) -> tirx.Expr:
            return (tirx.floordiv(j, kh) * (dd * tall) + tirx.floormod(j, kh) * dh) * (wide * c)

        if dw == 1:
            return Reduction(kd * kh, kw * c, line)
        return Reduction(
            kd * kh * kw,
            c,
            lambda j: line(tirx.floordiv(j, kw)) + tirx.floormod(j, kw) * (dw * c),
        )


def _padded(name: str, x: Given, v: _Volume, target: Target) -> Launch:
    """X [n, d, h, w, c] with zeros around it."""
    batch, c = v.spec.x[:2]
    kernel = Kernel(name)
    source = kernel.param((batch, *v.size, c), "float32", "x")
    out = kernel.param((batch, *v.padded, c), "float32", "y")
    lanes = lanes_of(target)
    (deep, tall, wide), (depth, height, width) = v.padded, v.size
    row, whole, left = width * c, wide * c, v.begins[2] * c
    lines = kernel.size(batch) * (deep * tall)

    def line(number: tirx.Expr) -> Stmt:
        plane, h = tirx.floordiv(number, tall), tirx.floormod(number, tall) - v.begins[1]
        image, d = tirx.floordiv(plane, deep), tirx.floormod(plane, deep) - v.begins[0]
        at, begin = number * whole, ((image * depth + d) * height + h) * row
        right = whole - left - row
        filled = [
            *([fill(out, at, left, lanes)] if left else []),
            copy(out, at + left, source, begin, row, lanes),
            *([fill(out, at + left + row, right, lanes)] if right else []),
        ]
        inside = tirx.all(d >= 0, d < depth, h >= 0, h < height)
        return branch(inside, seq(filled), fill(out, at, whole, lanes))

    many = worth_threads(lines * whole, FEWEST_ELEMENTS)
    body = loop(lines, line, "line", parallel=many)
    return Launch(kernel.finish(body), (x,), (batch, *v.padded, c), "float32")


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: ConvSpec = call.spec
    if len(spec.x) != 5:
        return f"it has {len(spec.x) - 2} spatial axes"
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    if spec.transposed or spec.groups > 1:
        return "it is transposed" if spec.transposed else f"it has {spec.groups} groups"
    if not all(isinstance(size, int) for size in spec.x[1:]):
        return "its channels or spatial sizes are open"
    if any(step.name == "max_pool" for step in spec.epilogue):
        return "it is three-dimensional and pools"
    return Epilogue.refuses(spec.epilogue, 1 - len(spec.x))


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: ConvSpec = call.spec
    v, names, w = _Volume(spec), Names(call.name), call.get("w").array
    x: Given | int = Given("x", channels_last=True)
    launches = []
    if any(spec.padding):
        launches.append(_padded(names.next("pad"), x, v, target))
        x = 0
    (batch, c), n, kernel = spec.x[:2], spec.w[0], spec.w[2:]
    known = isinstance(batch, int)
    each, depth, lanes = math.prod(v.out), math.prod(kernel) * c, lanes_of(target)
    name, m = names.next("conv"), each * batch if known else each
    blocking = default_blocking(name, m, n, depth, target, v.windows.runs)

    def columns() -> np.ndarray:
        return w.transpose(2, 3, 4, 1, 0).reshape(depth, n)

    packed = packed_columns((depth, n), blocking.vectors * lanes, lanes, columns)
    arrays = conv.operands(call)
    padded, out = (batch, *v.padded, c), (batch, *v.out, n)
    k = WeightedKernel(name, padded, packed, out, spec.epilogue, arrays, lanes)

    def store(r: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
        return k.store(index(r) * n + column, column, width, value)

    product = Product(
        m=m,
        n=n,
        a=k.x,
        row=v.window,
        reduction=v.windows,
        b=k.w,
        row_step=spec.strides[2] * c,
        begin=k.begin,
        repeats=1 if known else k.kernel.size(batch),
    )
    launches.append(k.launch(contraction(product, blocking, store, target), x))
    return Lowered(tuple(launches), channels_last=True)


CONV_VOLUME = Rule("conv_volume", ConvSpec, _refuses, _lower)
