"""Convolutions in narrow groups, channels last: tiles along a line of y, of one or two vectors.

    for a block of lines: for each group: for each line: for each tile of the line:
        for kh, c of the group, kw:
            acc[r, :] += x[line * sh + kh, (column + r) * sw + kw, c] * w[kh, kw, c, :]

With a few channels a group, addresses cost more than products: the outputs of a tile lie a fixed
distance apart, which goes into the instructions. x is not padded: taps outside of it are left out.
Groups that are narrower than a vector share one: each lane gets the channel of its own group, by a
permutation of the vector that holds them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import Step
from tilewright.targets.rules.blocking import FLOAT_BYTES, shares
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import MOST_ROWS, heights, lanes_of
from tilewright.targets.rules.rule import Given, Launch, Packed
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    bind,
    ceil_div,
    local,
    loop,
    pieces,
    seq,
)
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target

# Vectors of columns of a tile; two share what is read of x.
MOST_VECTORS = 2


def is_narrow(g: Geometry, target: Target) -> bool:
    """Whether the outputs of a group fill the vectors of a tile twice at most."""
    return g.groups > 1 and g.out_channels // g.groups <= 2 * MOST_VECTORS * lanes_of(target)


def product(
    name: str,
    x: Given | int,
    g: Geometry,
    w: np.ndarray,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
) -> Launch:
    """The convolution of x as it is; `w` is [n, c of a group, *kernel]."""
    bundle = bundle_of(g, target)
    packed = bundle.packed(w, g)
    k = WeightedKernel(name, g.x_last, packed, g.y_last, steps, arrays, bundle.lanes)
    nest = _Nest(g, bundle, k, packed.shape[1])
    high = most_rows(bundle.vectors, target)
    parts = [(p, columns) for p in bundle.panels(g) for columns in columns_of(g, high)]
    lines, each = k.kernel.size(g.repeats) * (g.images * g.out[0]), block_lines(g, target)
    bundles = g.groups // bundle.groups
    # Where lines alone do not keep all threads busy, a piece has some of the groups.
    most = min(bundles, max(1, shares(target) * each // (g.images * g.out[0])))
    split = next(s for s in range(most, 0, -1) if bundles % s == 0)

    def piece(p: tirx.Expr) -> Stmt:
        # The last block begins early enough to be whole: what two blocks compute is the same.
        first = tirx.min(tirx.floordiv(p, split) * each, lines - each)
        share = tirx.floormod(p, split) * (bundles // split)
        return bind(first, "first", lambda f: bind(share, "share", lambda s: block(f, s)))

    def block(first: tirx.Expr, share: tirx.Expr) -> Stmt:
        def line(i: Index) -> Stmt:
            at = lambda n: seq(nest.tiles(n, share + i, *part) for part in parts)  # noqa: E731
            return loop(each, lambda n: bind(first + n, "line", at), "n")

        return loop(bundles // split, line, "group")

    body = loop(ceil_div(lines, each) * split, piece, "piece", parallel=True)
    return k.launch(body, x)


def block_lines(g: Geometry, target: Target) -> int:
    """Lines of y of a block: what they read stays in half of L2 for all groups."""
    lines = g.images * g.out[0]
    line = FLOAT_BYTES * g.channels * g.size[1] * g.strides[0]
    most = max(1, min(target.l2_bytes // 2 // line, -(-lines // shares(target))))
    return -(-lines // -(-lines // most))


def most_rows(vectors: int, target: Target) -> int:
    """Outputs of a tile: there is room for two vectors beside it, of the taps that come next."""
    return max(1, min(MOST_ROWS, (target.vector_registers - vectors - 3) // vectors))


@dataclass(frozen=True)
class Panel:
    """`width` outputs of a bundle from `first` on; their weights begin at `base`."""

    first: int
    width: int
    base: int
    lanes: int

    @property
    def padded(self) -> int:
        """The width in whole vectors."""
        return -(-self.width // self.lanes) * self.lanes


@dataclass(frozen=True)
class Bundle:
    """`groups` neighbouring groups that are computed together, of `c` channels in and `n` out.

    Several fill one vector: then c and n are equal.
    """

    groups: int
    c: int
    n: int
    lanes: int

    @property
    def columns(self) -> int:
        """Outputs of all its groups."""
        return self.groups * self.n

    @property
    def vectors(self) -> int:
        """Vectors of a tile."""
        return min(MOST_VECTORS, -(-self.columns // self.lanes))

    def panels(self, g: Geometry) -> list[Panel]:
        """Its outputs, as many at a time as a tile has."""
        wide, found, base = self.vectors * self.lanes, [], 0
        for first in range(0, self.columns, wide):
            panel = Panel(first, min(wide, self.columns - first), base, self.lanes)
            found.append(panel)
            base += math.prod(g.kernel) * self.c * panel.padded
        return found

    def packed(self, w: np.ndarray, g: Geometry) -> Packed:
        """Weights as [bundle][panel][kh, kw, c][outputs of the panel]."""
        count = g.groups // self.groups
        shape = (count, math.prod(g.kernel) * self.c, self.columns)

        def columns() -> np.ndarray:
            parts = w.reshape(count, self.groups, self.n, self.c, *g.kernel)
            # To [bundle][kh, kw, c][group of the bundle, n].
            return parts.transpose(0, 4, 5, 3, 1, 2).reshape(shape)

        return packed_columns(shape, self.vectors * self.lanes, self.lanes, columns)

    def factor(self, x: Flat, at: Index, k: Index) -> tirx.Expr:
        """Channel `k` of the group of each lane; those of the bundle begin at `at`."""
        if self.groups == 1:
            return x.splat(at + k, self.lanes)
        own = [group * self.c + k for group in range(self.groups) for _ in range(self.n)]
        return tirx.Shuffle([x.load(at, self.lanes)], own)


def bundle_of(g: Geometry, target: Target) -> Bundle:
    """As many groups as fill a vector, where that comes out even; one otherwise."""
    c, n, lanes = g.group_channels, g.out_channels // g.groups, lanes_of(target)
    fits = c == n and lanes % n == 0 and g.groups % (lanes // n) == 0
    return Bundle(lanes // n if fits else 1, c, n, lanes)


@dataclass(frozen=True)
class Columns:
    """`count` tiles along a line, `height` outputs each, from output `start` on.

    A tile that reaches over an edge of x is alone: which of its taps count is known then.
    """

    start: int
    count: int
    height: int
    edge: bool

    def rows(self, g: Geometry, kw: int) -> list[int]:
        """Outputs of a tile for which tap `kw` is inside of x."""
        first = self.start * g.strides[1] - g.begins[1] + kw * g.dilation[1]
        inside = [0 <= first + r * g.strides[1] < g.size[1] for r in range(self.height)]
        return [r for r in range(self.height) if inside[r] or not self.edge]


def columns_of(g: Geometry, high: int) -> list[Columns]:
    """A line of y in tiles of at most `high` outputs."""
    found, start = [], 0
    left, reach = g.begins[1], (g.kernel[1] - 1) * g.dilation[1]
    for count, height in heights(g.out[1], high):
        inner: list[int] = []
        for first in range(start, start + count * height, height):
            last = (first + height - 1) * g.strides[1] - left + reach
            if first * g.strides[1] < left or last >= g.size[1]:
                found.append(Columns(first, 1, height, edge=True))
            else:
                inner.append(first)
        if inner:
            found.append(Columns(inner[0], len(inner), height, edge=False))
        start += count * height
    return found


@dataclass(frozen=True)
class _Nest:
    g: Geometry
    bundle: Bundle
    kernel: WeightedKernel
    # Weights of a bundle.
    w_each: int

    def tiles(self, line: tirx.Expr, i: Index, panel: Panel, columns: Columns) -> Stmt:
        """The tiles `columns` of a line, for one panel of bundle `i`."""
        g = self.g
        (oh, ow), (tall, wide) = g.out, g.size
        image, top = tirx.floordiv(line, oh), tirx.floormod(line, oh) * g.strides[0] - g.begins[0]
        channel = i * self.bundle.columns + panel.first

        def one(t: Index) -> Stmt:
            column = columns.start + t * columns.height
            place = (image * tall + top) * wide + column * g.strides[1] - g.begins[1]
            window = place * g.channels + i * (self.bundle.groups * self.bundle.c)
            to = (line * ow + column) * g.out_channels + channel
            tile = lambda at: self._tile(at, top, i, panel, columns, to, channel)  # noqa: E731
            return bind(window, "window", tile)

        return loop(columns.count, one, "tile")

    def _tile(
        self,
        window: tirx.Expr,
        top: tirx.Expr,
        i: Index,
        panel: Panel,
        columns: Columns,
        to: tirx.Expr,
        channel: Index,
    ) -> Stmt:
        """One tile, whose first window begins at `window` of x, in line `top` of its image.

        The sums go to `to` of y; `channel` is the first.
        """
        g, lanes = self.g, self.bundle.lanes
        acc, made = local(columns.height * panel.padded, "float32", "acc")
        steps = [made]
        for at in range(0, columns.height * panel.padded, lanes):
            value = self.kernel.begin(channel + at % panel.padded, lanes)
            steps.append(acc.store(at, value, lanes))
        # Lines of the kernel above the first line of x and below its last one are left out.
        first = tirx.max(0, ceil_div(-top, g.dilation[0]))
        count = tirx.min(g.kernel[0], ceil_div(g.size[0] - top, g.dilation[0])) - first
        taps = [kw for kw in range(g.kernel[1]) if columns.rows(g, kw)]

        def kernel_line(j: tirx.Expr) -> Stmt:
            kh = first + j
            at = window + kh * (g.dilation[0] * g.size[1] * g.channels)
            row = i * self.w_each + panel.base + kh * (g.kernel[1] * self.bundle.c * panel.padded)
            # Channel by channel: neighbouring taps read the same of it.
            channel = lambda k: seq(  # noqa: E731
                self._tap(acc, at, row, kw, k, panel, columns) for kw in taps
            )
            return self._channels(channel)

        if taps:
            steps.append(loop(count, kernel_line, "j"))
        for r in range(columns.height):
            for at, n in pieces(panel.width, lanes):
                place = to + r * g.out_channels + at
                value = acc.load(r * panel.padded + at, n)
                steps.append(self.kernel.store(place, channel + at, n, value))
        return seq(steps)

    def _channels(self, channel: Callable[[Index], Stmt]) -> Stmt:
        """All channels of a group; those of a bundle one by one, for the permutations."""
        c = self.bundle.c
        return loop(c, channel, "c") if self.bundle.groups == 1 else seq(map(channel, range(c)))

    def _tap(
        self,
        acc: Flat,
        window: tirx.Expr,
        weights: tirx.Expr,
        kw: int,
        k: Index,
        panel: Panel,
        columns: Columns,
    ) -> Stmt:
        """The products of tap `kw` and channel `k`, in a line of x and of the kernel."""
        g, lanes = self.g, self.bundle.lanes
        row = weights + (kw * self.bundle.c + k) * panel.padded
        w = self.kernel.w
        vectors = [(at, w.load(row + at, lanes)) for at in range(0, panel.padded, lanes)]
        done = []
        for r in columns.rows(g, kw):
            at = window + (r * g.strides[1] + kw * g.dilation[1]) * g.channels
            factor = self.bundle.factor(self.kernel.x, at, k)
            for place, vector in vectors:
                here = r * panel.padded + place
                done.append(acc.store(here, acc.load(here, lanes) + factor * vector, lanes))
        return seq(done)
