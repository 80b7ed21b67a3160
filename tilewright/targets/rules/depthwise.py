"""Depthwise convolutions, channels last: one filter per channel.

    for tiles of neighbouring outputs in a row, for vectors of channels:
        acc[position, channel] = sum over kh, kw of x[oh s + kh, ow s + kw, c] * w[kh, kw, c]

Nothing is padded: outputs whose windows leave the input are computed apart, with their own taps,
so that the interior has no comparisons. Neighbouring outputs share loads of x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import Step
from tilewright.targets.rules.epilogue import Epilogue, epilogue_operands
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.register_tile import heights, lanes_of
from tilewright.targets.rules.rule import Given, Launch
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Flat,
    Index,
    Kernel,
    branch,
    fill,
    index,
    local,
    loop,
    number,
    pieces,
    seq,
    worth_threads,
)
from tilewright.targets.target import Target

# Outputs side by side in one tile: with 3 taps each, 6 share 8 columns of x.
POSITIONS = 6


@dataclass(frozen=True)
class Stretch:
    """Outputs `start` ... `stop` of an axis whose windows have the taps `first` ... `last`."""

    start: int
    stop: int
    first: int
    last: int


def stretches(
    size: int, out: int, kernel: int, stride: int, dilation: int, begin: int
) -> list[Stretch]:
    """The outputs of an axis, grouped by the taps of their windows that are inside the input."""
    found: list[Stretch] = []
    for at in range(out):
        origin = at * stride - begin
        inside = [k for k in range(kernel) if 0 <= origin + k * dilation < size]
        # A window wholly in the padding has no tap: its sum is empty.
        first, last = (inside[0], inside[-1] + 1) if inside else (0, 0)
        if found and (found[-1].first, found[-1].last) == (first, last):
            found[-1] = Stretch(found[-1].start, at + 1, first, last)
        else:
            found.append(Stretch(at, at + 1, first, last))
    return found


def launch(
    name: str,
    x: Given | int,
    g: Geometry,
    w: np.ndarray,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
    means: bool = False,
) -> Launch:
    """The whole convolution; `w` is [channels, 1, *kernel].

    With `means` a second result is the mean of each line, [batch, lines, channels].
    """
    (kh, kw), channels = g.kernel, g.channels
    lanes = lanes_of(target)
    taps = np.ascontiguousarray(w.reshape(channels, kh * kw).T)
    kernel = Kernel(name)
    values = kernel.param(g.x_last, "float32", "x")
    weights = kernel.param(taps.shape, "float32", "w")
    operands, inputs = epilogue_operands(kernel, arrays, channels, g.y_last, lanes)
    out = kernel.param(g.y_last, "float32", "y")
    also = ((g.batch, g.out[0], channels),) if means else ()
    of_lines = kernel.param(*also, "float32", "means") if means else None
    nest = _Nest(g, values, weights, out, Epilogue(steps, operands), lanes, of_lines)
    return Launch(kernel.finish(nest.whole()), (x, taps, *inputs), g.y_last, "float32", also)


class _Nest:
    def __init__(
        self,
        g: Geometry,
        x: Flat,
        w: Flat,
        out: Flat,
        epilogue: Epilogue,
        lanes: int,
        means: Flat | None,
    ) -> None:
        self._g, self._x, self._w, self._out, self._epilogue = g, x, w, out, epilogue
        self._lanes, self._means = lanes, means
        axes = zip(g.size, g.out, g.kernel, g.strides, g.dilation, g.begins, strict=True)
        self._lines, self._columns = (stretches(*axis) for axis in axes)

    def whole(self) -> Stmt:
        """One line of outputs is a piece; a line's stretch says which taps it has."""

        def piece(line: tirx.Expr) -> Stmt:
            image, h = tirx.floordiv(line, self._g.out[0]), tirx.floormod(line, self._g.out[0])
            body: Stmt | None = None
            for stretch in reversed(self._lines):
                one = self._line(image, h, stretch)
                body = one if body is None else branch(h < stretch.stop, one, body)
            return body

        many = worth_threads(math.prod(self._g.y_last), FEWEST_ELEMENTS)
        return loop(self._g.batch * self._g.out[0], piece, "line", parallel=many)

    def _line(self, image: Index, h: Index, taps: Stretch) -> Stmt:
        g = self._g
        steps = []
        if self._means is not None:
            line = (image * g.out[0] + h) * g.channels
            steps.append(fill(self._means, line, g.channels, self._lanes))
        for columns in self._columns:
            start = columns.start
            for count, size in heights(columns.stop - columns.start, POSITIONS):
                steps.append(
                    loop(
                        count,
                        lambda t, start=start, size=size, columns=columns: self._channels(
                            image, h, start + t * size, size, taps, columns
                        ),
                        "tile",
                    )
                )
                start += count * size
        return seq(steps)

    def _channels(
        self, image: Index, h: Index, start: Index, size: int, lines: Stretch, columns: Stretch
    ) -> Stmt:
        """All channels of a few neighbours: what they read of a line lies side by side."""
        full, rest = divmod(self._g.channels, self._lanes)
        tile = lambda c, n: self._tile(image, h, start, size, lines, columns, c, n)  # noqa: E731
        steps = []
        if full:
            steps.append(loop(full, lambda v: tile(v * self._lanes, self._lanes), "v"))
        for at, n in pieces(rest, self._lanes):
            steps.append(tile(index(full * self._lanes + at), n))
        return seq(steps)

    def _tile(
        self,
        image: Index,
        h: Index,
        start: Index,
        size: int,
        lines: Stretch,
        columns: Stretch,
        c: tirx.Expr,
        n: int,
    ) -> Stmt:
        g = self._g
        (height, width), (sh, sw), (dh, dw), kw = g.size, g.strides, g.dilation, g.kernel[1]
        acc, made = local(size * n, "float32", "acc")
        steps = [made, *(acc.store(p * n, number(0.0, "float32", n), n) for p in range(size))]
        top, left = h * sh - g.begins[0], start * sw - g.begins[1]
        for i in range(lines.first, lines.last):
            row = ((image * height + top + i * dh) * width + left) * g.channels + c
            for j in range(columns.first, columns.last):
                tap = self._w.load((i * kw + j) * g.channels + c, n)
                for p in range(size):
                    value = self._x.load(row + (p * sw + j * dw) * g.channels, n)
                    steps.append(acc.store(p * n, acc.load(p * n, n) + value * tap, n))
        place = ((image * g.out[0] + h) * g.out[1] + start) * g.channels + c
        for p in range(size):
            at = place + p * g.channels
            steps.append(acc.store(p * n, self._epilogue(acc.load(p * n, n), at, c, n), n))
            steps.append(self._out.store(at, acc.load(p * n, n), n))
        if self._means is not None:
            total = acc.load(0, n)
            for p in range(1, size):
                total = total + acc.load(p * n, n)
            line = (image * g.out[0] + h) * g.channels + c
            mean = self._means.load(line, n) + total * number(1.0 / g.out[1], "float32", n)
            steps.append(self._means.store(line, mean, n))
        return seq(steps)
