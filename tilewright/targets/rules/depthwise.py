"""Depthwise convolutions, channels last: one filter per channel.

    for tiles of neighbouring outputs in a row, for vectors of channels:
        acc[position, channel] = sum over kh, kw of x[oh s + kh, ow s + kw, c] * w[kh, kw, c]

Nothing is padded: where windows leave the input it is known which taps they have, for each output
of the first and last tiles of a row and, of small kernels, for the rows at both ends; the rows of
taps of large ones are counted. Neighbouring outputs share loads of x. A tile fetches what the next
one will read first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import Step
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.knobs import pick
from tilewright.targets.rules.register_tile import LINE_FLOATS, heights, lanes_of
from tilewright.targets.rules.rule import Given, Launch, Packed
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Flat,
    Index,
    bind_all,
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
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target

# Outputs side by side in one tile, for 16 registers: with 3 taps each, 7 share 9 columns of x.
POSITIONS = 7
# Taps of the largest kernel that is written out for all lines, and of the largest that is for lines
# with all taps; other lines count their rows of taps. What is written out is 2 to 6% faster, and a
# kernel of 9x9 takes ten times as long to compile.
MOST_WRITTEN, MOST_WRITTEN_WHOLE = 25, 49
# Registers beside the sums of a tile: a tap, and values of x on their way.
SPARE_REGISTERS = 3


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


# From which row of taps to before which: those that a line has.
_Rows = tuple[Index, Index]


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
    taps = Packed((kh * kw, channels), lambda: w.reshape(channels, kh * kw).T)
    k = WeightedKernel(name, g.x_last, taps, g.y_last, steps, arrays, lanes)
    also = ((g.batch, g.out[0], channels),) if means else ()
    of_lines = k.kernel.param(*also, "float32", "means") if means else None
    most = min(g.out[1], target.vector_registers - SPARE_REGISTERS)
    usual = min(g.out[1], POSITIONS * target.vector_registers // 16)
    wide = pick(name, "positions", range(1, most + 1), usual)
    nest = _Nest(g, k, lanes, of_lines, wide)
    return k.launch(nest.whole(k.kernel.size(g.batch)), x, also=also)


class _Nest:
    def __init__(
        self,
        g: Geometry,
        kernel: WeightedKernel,
        lanes: int,
        means: Flat | None,
        positions: int,
    ) -> None:
        self._g, self._kernel, self._x, self._w = g, kernel, kernel.x, kernel.w
        self._lanes, self._means, self._positions = lanes, means, positions
        self._lines = stretches(
            *(g.size[0], g.out[0], g.kernel[0], g.strides[0], g.dilation[0], g.begins[0])
        )
        taps = math.prod(g.kernel)
        most = {(0, g.kernel[0]): MOST_WRITTEN_WHOLE}
        self._written = [
            s for s in self._lines if taps <= most.get((s.first, s.last), MOST_WRITTEN)
        ]

    def whole(self, images: Index) -> Stmt:
        """One line of outputs is a piece; a line's stretch says which taps it has."""
        (lines, columns), channels = self._g.out, self._g.channels

        def piece(line: tirx.Expr) -> Stmt:
            image, h = tirx.floordiv(line, lines), tirx.floormod(line, lines)
            left = len(self._written) < len(self._lines)
            body = self._counted(image, h) if left else None
            for stretch in reversed(self._written):
                one = self._line(image, h, (stretch.first, stretch.last))
                inside = tirx.all(h >= stretch.start, h < stretch.stop)
                body = one if body is None else branch(inside, one, body)
            return body

        many = worth_threads(images * lines * columns * channels, FEWEST_ELEMENTS)
        return loop(images * lines, piece, "line", parallel=many)

    def _counted(self, image: Index, h: Index) -> Stmt:
        """A line whose rows of taps are counted when it is computed."""
        g = self._g
        origin, step = h * g.strides[0] - g.begins[0], g.dilation[0]
        first = tirx.max(tirx.floordiv(step - 1 - origin, step), 0)
        last = tirx.min(tirx.floordiv(g.size[0] - 1 - origin, step) + 1, g.kernel[0])

        inside = lambda rows: self._line(image, h, tuple(rows))  # noqa: E731
        return bind_all([first, last], ["first", "last"], inside)

    def _line(self, image: Index, h: Index, taps: _Rows) -> Stmt:
        g = self._g
        steps = []
        if self._means is not None:
            line = (image * g.out[0] + h) * g.channels
            steps.append(fill(self._means, line, g.channels, self._lanes))
        first = 0
        for count, size in heights(g.out[1], self._positions):
            starts = [first + i * size for i in range(count)]
            inner = [start for start in starts if self._is_inner(start, size)]
            # Inner tiles are neighbours: they are a loop, the others one statement each.
            for start in starts:
                if start not in inner:
                    steps.append(self._channels(image, h, index(start), size, taps, start))
                elif start == inner[0]:
                    steps.append(self._inner(image, h, start, size, len(inner), taps))
            first += count * size
        return seq(steps)

    def _is_inner(self, start: int, size: int) -> bool:
        """Whether the windows of all outputs from `start` on have all their columns."""
        g = self._g
        left = start * g.strides[1] - g.begins[1]
        wide = (size - 1) * g.strides[1] + (g.kernel[1] - 1) * g.dilation[1] + 1
        return left >= 0 and left + wide <= g.size[1]

    def _inner(
        self, image: Index, h: Index, first: int, size: int, count: int, taps: _Rows
    ) -> Stmt:
        def one(t: tirx.Expr) -> Stmt:
            return self._channels(image, h, first + t * size, size, taps, None)

        return loop(count, one, "tile")

    def _channels(
        self, image: Index, h: Index, start: Index, size: int, taps: _Rows, at_edge: int | None
    ) -> Stmt:
        """All channels of a few neighbours: what they read of a line lies side by side.

        `at_edge` is where a tile starts that is not inner.
        """
        full, rest = divmod(self._g.channels, self._lanes)
        tile = lambda c, n: self._tile(image, h, start, size, taps, at_edge, c, n)  # noqa: E731
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
        taps: _Rows,
        at_edge: int | None,
        c: tirx.Expr,
        n: int,
    ) -> Stmt:
        g = self._g
        (height, width), (sh, sw), (dh, dw), kw = g.size, g.strides, g.dilation, g.kernel[1]
        acc, made = local(size * n, "float32", "acc")
        begun = self._kernel.begin(c, n)
        steps = [made, *(acc.store(p * n, begun, n) for p in range(size))]
        top, left = h * sh - g.begins[0], start * sw - g.begins[1]
        corner = ((image * height + top) * width + left) * g.channels
        steps += self._fetch(corner, size, c, n)
        # Column by column: an x is read once, and no register holds it for later.
        windows = sorted((p * sw + j * dw, p, j) for p in range(size) for j in range(kw))
        if at_edge is not None:
            edge = at_edge * sw - g.begins[1]
            windows = [window for window in windows if 0 <= edge + window[0] < width]

        def row(i: Index) -> Stmt:
            sums = []
            for column, p, j in windows:
                tap = self._w.load((i * kw + j) * g.channels + c, n)
                value = self._x.load(corner + (i * dh * width + column) * g.channels + c, n)
                sums.append(acc.store(p * n, acc.load(p * n, n) + value * tap, n))
            return seq(sums)

        first, last = taps
        if windows and isinstance(first, int):
            steps += map(row, range(first, last))
        elif windows:
            steps.append(loop(tirx.max(last - first, 0), lambda i: row(first + i), "i"))
        place = ((image * g.out[0] + h) * g.out[1] + start) * g.channels + c
        finish = self._kernel.epilogue.finish
        for p in range(size):
            at = place + p * g.channels
            steps.append(acc.store(p * n, finish(acc.load(p * n, n), at, c, n), n))
            steps.append(self._kernel.y.store(at, acc.load(p * n, n), n))
        if self._means is not None:
            total = acc.load(0, n)
            for p in range(1, size):
                total = total + acc.load(p * n, n)
            line = (image * g.out[0] + h) * g.channels + c
            mean = self._means.load(line, n) + total * number(1.0 / g.out[1], "float32", n)
            steps.append(self._means.store(line, mean, n))
        return seq(steps)

    def _fetch(self, corner: Index, size: int, c: tirx.Expr, n: int) -> list[Stmt]:
        """Ask for a share of what the next tile is the first to read.

        That lies in the last lines of its windows, side by side for all channels: the c-th part of
        it is fetched with channels c ... c + n.
        """
        g = self._g
        (sh, sw), wide = g.strides, g.size[1]
        reach = [(k - 1) * d + 1 for k, d in zip(g.kernel, g.dilation, strict=True)]
        new = size * sw + max(0, reach[1] - sw)
        found = []
        for line in range(max(0, reach[0] - sh), reach[0]):
            begin = corner + (line * wide + new) * g.channels + c * (size * sw)
            found += [self._x.prefetch(begin + q) for q in range(0, size * sw * n, LINE_FLOATS)]
        return found
