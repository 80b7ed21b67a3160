"""Zeros around an input, channels last: the copy that a convolution with padding reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops.spec import Dim, Shape
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.rule import Given, Launch
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Kernel,
    branch,
    copy,
    digits,
    fill,
    loop,
    seq,
    worth_threads,
)
from tilewright.targets.target import Target


@dataclass(frozen=True)
class Bordered:
    """An x of `batch` images of `size`, with `begins` and `ends` zeros around each axis."""

    batch: Dim
    size: tuple[int, ...]
    channels: int
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """The sizes with the zeros."""
        sums = zip(self.size, self.begins, self.ends, strict=True)
        return tuple(size + begin + end for size, begin, end in sums)

    @property
    def shape(self) -> Shape:
        """All of it, channels last."""
        return (self.batch, *self.padded, self.channels)

    @property
    def pads(self) -> bool:
        """Whether there are any zeros."""
        return any((*self.begins, *self.ends))


def padded(name: str, x: Given | int, x_shape: Shape, b: Bordered, target: Target) -> Launch:
    """X, whose shape is `x_shape`, with zeros around it: `b.shape`."""
    kernel = Kernel(name)
    source = kernel.param(x_shape, "float32", "x")
    out = kernel.param(b.shape, "float32", "y")
    lanes = lanes_of(target)
    row, whole, left = (n * b.channels for n in (b.size[-1], b.padded[-1], b.begins[-1]))
    right = whole - left - row
    lines = kernel.size(b.batch) * math.prod(b.padded[:-1])

    def line(number: tirx.Expr) -> Stmt:
        at, places = number * whole, digits(number, b.padded[:-1])
        begin, inside = places[0], []
        axes = zip(places[1:], b.size, b.padded, b.begins, strict=False)
        for place, size, wide, before in axes:
            begin = begin * size + place - before
            if wide != size:
                inside += [place >= before, place < before + size]
        inner = seq(
            [
                *([fill(out, at, left, lanes)] if left else []),
                copy(out, at + left, source, begin * row, row, lanes),
                *([fill(out, at + left + row, right, lanes)] if right else []),
            ]
        )
        return branch(tirx.all(*inside), inner, fill(out, at, whole, lanes)) if inside else inner

    many = worth_threads(lines * whole, FEWEST_ELEMENTS)
    body = loop(lines, line, "line", parallel=many)
    return Launch(kernel.finish(body), (x,), b.shape, "float32")
