"""The tiles of a Winograd convolution: from x to V, and from M to the result.

Each function writes the loop nest for one tile and all its channels, a vector of them at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops.spec import Shape
from tilewright.targets.rules.depthwise import Stretch, stretches
from tilewright.targets.rules.epilogue import Epilogue
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    Kernel,
    bind,
    branch,
    index,
    local,
    loop,
    number,
    pieces,
    seq,
)
from tilewright.targets.rules.winograd_matrices import Transforms, combine, transforms
from tilewright.targets.target import Target

LINE_FLOATS = 16


def spread(length: int) -> int:
    """Floats from one matrix of `length` numbers to the next.

    An odd number of cache lines: otherwise all matrices, which are written side by side,
    would fall into the same few sets of the cache.
    """
    lines = -(-length // LINE_FLOATS)
    return (lines + 1 - lines % 2) * LINE_FLOATS


@dataclass(frozen=True)
class Tiles:
    """The tiles of a convolution as a kernel has them: how many, and what is done with one.

    `transform` is `transform_tile`, `store` is `store_tile`, without the tiling and the target.
    """

    count: Index
    transform: Callable[[Flat, Flat, Index, Index, int], Stmt]
    store: Callable[[Flat, Index, Index, int, Index, int, Flat, Epilogue], Stmt]


class Tiling:
    """How the outputs of a convolution are cut into tiles, `tiles` in each of the repeats."""

    def __init__(self, g: Geometry, size: int) -> None:
        self.g, self.transforms = g, transforms(size)
        self.size, self.edge = size, self.transforms.edge
        self.matrices = self.edge**2
        self.grid = tuple(-(-out // size) for out in g.out)
        self.tiles = g.images * self.grid[0] * self.grid[1]
        self.x_last, self.y_last = g.x_last, g.y_last

    def within(self, kernel: Kernel, target: Target) -> Tiles:
        """The tiles of all images, in a kernel."""
        return Tiles(
            kernel.size(self.g.repeats) * self.tiles,
            lambda *place: transform_tile(self, *place, target),
            lambda *place: store_tile(self, *place, target),
        )

    def shape(self, columns: int) -> Shape:
        """V or M, whose rows have `columns` numbers: matrices of each repeat, rows of a matrix."""
        return (self.g.repeats, self.matrices, spread(self.tiles * columns))

    def row(self, tile: Index, columns: int) -> Index:
        """Where the row of a tile begins in the first matrix of V or M."""
        if self.g.repeats == 1:
            return tile * columns
        repeat, at = tirx.floordiv(tile, self.tiles), tirx.floormod(tile, self.tiles)
        return repeat * math.prod(self.shape(columns)[1:]) + at * columns

    def place(self, tile: Index, body: Callable[[Index, Index, Index], Stmt]) -> Stmt:
        """`body` of image, row and column in the grid of tile number `tile`."""
        down, across = self.grid
        image, at = tirx.floordiv(tile, down * across), tirx.floormod(tile, down * across)
        return bind(
            tirx.floordiv(at, across),
            "th",
            lambda th: bind(tirx.floormod(at, across), "tw", lambda tw: body(image, th, tw)),
        )


def transform_tile(
    tiling: Tiling, x: Flat, v: Flat, tile: Index, base: Index, stride: int, target: Target
) -> Stmt:
    """The row that begins at `base` in each matrix of V, from what tile number `tile` reads."""
    g, size = tiling.g, tiling.size
    lines = stretches(g.size[0], tiling.grid[0], tiling.edge, size, 1, g.begins[0])

    def at(image: Index, th: Index, tw: Index) -> Stmt:
        top, left = th * size - g.begins[0], tw * size - g.begins[1]
        origin = ((image * g.size[0] + top) * g.size[1] + left) * g.channels

        def patch(line: Stretch) -> Stmt:
            def vector(c: Index, n: int) -> Stmt:
                return _patch(tiling, x, origin + c, line, left, v, base + c, stride, n)

            return vectors(g.channels, lanes_of(target), vector)

        return _by_stretch(th, lines, patch)

    return tiling.place(tile, at)


def _by_stretch(at: Index, found: list[Stretch], body: Callable[[Stretch], Stmt]) -> Stmt:
    """`body` of the stretch that `at` is in."""
    whole: Stmt | None = None
    for stretch in reversed(found):
        one = body(stretch)
        whole = one if whole is None else branch(at < stretch.stop, one, whole)
    return whole


def vectors(columns: int, lanes: int, body: Callable[[Index, int], Stmt]) -> Stmt:
    """`body(start, lanes)` for vectors that cover `columns`."""
    full, rest = divmod(columns, lanes)
    steps = [loop(full, lambda i: body(i * lanes, lanes), "c")] if full else []
    return seq([*steps, *(body(index(full * lanes + at), n) for at, n in pieces(rest, lanes))])


def _patch(
    tiling: Tiling,
    x: Flat,
    origin: Index,
    line: Stretch,
    left: Index,
    v: Flat,
    place: Index,
    stride: int,
    n: int,
) -> Stmt:
    """BT d B for one vector of channels; what is outside `line`, or outside a line of x, is 0."""
    edge, width = tiling.edge, tiling.g.size[1]
    half, made = local(edge * edge * n, "float32", "half")
    steps = [made]

    def column(j: int) -> Stmt:
        taps: list[tirx.Expr | None] = [None] * edge
        for i in range(line.first, line.last):
            taps[i] = x.load(origin + (i * width + j) * tiling.g.channels, n)
        return seq(down(tiling.transforms, taps, half, j, n))

    columns = stretches(width, tiling.grid[1], edge, tiling.size, 1, tiling.g.begins[1])
    for j in range(edge):
        if all(stretch.first <= j < stretch.last for stretch in columns):
            steps.append(column(j))
        else:
            inside = tirx.all(left + j >= 0, left + j < width)
            steps.append(
                branch(inside, column(j), seq(_stored(half, j * n, edge * n, [None] * edge, n)))
            )
    return seq([*steps, *across(tiling.transforms, half, v, place, stride, n)])


def down(t: Transforms, taps: list[tirx.Expr | None], half: Flat, j: int, n: int) -> list[Stmt]:
    """Column `j` of BT d, into `half`, from a column of d; None is 0."""
    before, rows = combine(t.bt, taps)
    return [*before, *_stored(half, j * n, t.edge * n, rows, n)]


def across(t: Transforms, half: Flat, v: Flat, place: Index, stride: int, n: int) -> list[Stmt]:
    """`half` B: one vector of each matrix of V, from `place` on."""
    steps, edge = [], t.edge
    for i in range(edge):
        before, row = combine(t.bt, [half.load((i * edge + j) * n, n) for j in range(edge)])
        steps += before
        steps += [v.store(place + (i * edge + j) * stride, y, n) for j, y in enumerate(row)]
    return steps


def _stored(half: Flat, at: int, stride: int, rows: list[tirx.Expr | None], n: int) -> list[Stmt]:
    """The rows in the buffer, `stride` apart from `at` on; None is 0."""
    zero = number(0.0, "float32", n)
    return [half.store(at + i * stride, zero if y is None else y, n) for i, y in enumerate(rows)]


def store_tile(
    tiling: Tiling,
    m: Flat,
    tile: Index,
    base: Index,
    stride: int,
    first: Index,
    columns: int,
    out: Flat,
    epilogue: Epilogue,
    target: Target,
) -> Stmt:
    """AT M A of tile number `tile`, whose row begins at `base` in each matrix of `m`.

    The row holds `columns` channels of the result, from channel `first` on.
    """
    g, size = tiling.g, tiling.size

    def outputs(image: Index, th: Index, tw: Index) -> Stmt:
        top, left = th * size, tw * size
        place = ((image * g.out[0] + top) * g.out[1] + left) * g.out_channels + first
        # The last tile of a line, or the last line, may have fewer outputs.
        tall = size if g.out[0] % size == 0 else tirx.min(size, g.out[0] - top)
        rest = g.out[1] % size

        def wide(count: int) -> Stmt:
            return vectors(columns, lanes_of(target), lambda c, n: vector(c, n, count))

        def vector(c: Index, n: int, count: int) -> Stmt:
            def put(i: Index, j: int, value: tirx.Expr) -> Stmt:
                y = place + (i * g.out[1] + j) * g.out_channels + c
                return out.store(y, epilogue(value, y, first + c, n), n)

            return outputs_of(tiling.transforms, m, base + c, stride, n, tall, count, put)

        if not rest:
            return wide(size)
        if g.out[1] < size:
            return wide(rest)
        return branch(tw < g.out[1] // size, wide(size), wide(rest))

    return tiling.place(tile, outputs)


def outputs_of(
    t: Transforms,
    m: Flat,
    base: Index,
    stride: int,
    n: int,
    tall: Index,
    wide: int,
    put: Callable[[Index, int, tirx.Expr], Stmt],
) -> Stmt:
    """AT M A for one vector of M from `base` on; `put` gets the row, the column, the value.

    Of the outputs those in the first `tall` rows and `wide` columns.
    """
    size, edge = t.size, t.edge
    half, made = local(size * edge * n, "float32", "half")
    steps = [made]
    for j in range(edge):
        before, rows = combine(
            t.at, [m.load(base + (i * edge + j) * stride, n) for i in range(edge)]
        )
        steps += [*before, *_stored(half, j * n, edge * n, rows, n)]

    def line(i: Index) -> Stmt:
        done, values = combine(t.at, [half.load((i * edge + j) * n, n) for j in range(edge)])
        return seq([*done, *(put(i, j, values[j]) for j in range(wide))])

    return seq([*steps, loop(tall, line, "line")])
