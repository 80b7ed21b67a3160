"""Winograd tiles of open spatial sizes: where one reaches over an end is asked when it runs.

Tiles inside are transformed as those of known sizes are. One that reads beyond the input is copied
first, with zeros around it, and one that reaches over the result stores what is inside.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec
from tilewright.ops.spec import Shape
from tilewright.targets.rules.epilogue import Epilogue
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.rule import last
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    Kernel,
    branch,
    ceil_div,
    copy,
    fill,
    index,
    local,
    loop,
    opaque,
    opaque_all,
    seq,
    workspace,
)
from tilewright.targets.rules.winograd_matrices import transforms
from tilewright.targets.rules.winograd_tiles import Tiles, across, down, outputs_of, vectors
from tilewright.targets.target import Target


class OpenTiling:
    """How the outputs of a convolution, `result` [n, c, h, w], are cut into tiles."""

    def __init__(self, spec: ConvSpec, result: Shape, size: int) -> None:
        self.transforms = transforms(size)
        self.matrices = self.transforms.edge**2
        self.x_last, self.y_last = last(spec.x), last(result)
        self.begins = spec.padding[:2]

    def within(self, kernel: Kernel, target: Target) -> Tiles:
        """The tiles of all images, in a kernel; beyond them it is the last one again."""
        seen = _Seen(self, kernel, lanes_of(target))
        return Tiles(seen.count, seen.transform, seen.store)


class _Seen:
    """A tiling with the sizes of a kernel."""

    def __init__(self, tiling: OpenTiling, kernel: Kernel, lanes: int) -> None:
        self._t, self._begins, self._lanes = tiling.transforms, tiling.begins, lanes
        images, *self._size, self._channels = map(kernel.size, tiling.x_last)
        _, *self._out, self._out_channels = map(kernel.size, tiling.y_last)
        self._grid = tuple(ceil_div(out, self._t.size) for out in self._out)
        self.count = images * self._grid[0] * self._grid[1]

    def _place(self, tile: Index, body: Callable[[Index, Index, Index], Stmt]) -> Stmt:
        """`body` of a tile's image, and of its first row and column in the result."""
        (high, wide), size = self._grid, self._t.size

        def found(at: tirx.Expr) -> Stmt:
            line = tirx.floordiv(at, wide)
            image, row = tirx.floordiv(line, high), tirx.floormod(line, high) * size
            left = tirx.floormod(at, wide) * size
            return opaque_all([image, row, left], "place", lambda found: body(*found))

        return opaque(tirx.min(tile, self.count - 1), "tile", found)

    def transform(self, x: Flat, v: Flat, tile: Index, base: Index, stride: int) -> Stmt:
        edge, (height, width), channels = self._t.edge, self._size, self._channels

        def at(image: Index, top: Index, left: Index) -> Stmt:
            above, before = top - self._begins[0], left - self._begins[1]
            origin = ((image * height + above) * width + before) * channels
            inside = tirx.all(
                above >= 0, before >= 0, above + edge <= height, before + edge <= width
            )
            whole = self._transformed(x, origin, width * channels, v, base, stride)
            patch, made = workspace(edge * edge * channels, "float32", "patch")

            def copied(i: tirx.Expr, j: tirx.Expr) -> Stmt:
                h, w, place = above + i, before + j, (i * edge + j) * channels
                source = origin + (i * width + j) * channels
                return branch(
                    tirx.all(h >= 0, h < height, w >= 0, w < width),
                    copy(patch, place, x, source, channels, self._lanes),
                    fill(patch, place, channels, self._lanes),
                )

            filled = loop(edge, lambda i: loop(edge, lambda j: copied(i, j), "j"), "i")
            cut = self._transformed(patch, index(0), edge * channels, v, base, stride)
            return branch(inside, whole, seq([made, filled, cut]))

        return self._place(tile, at)

    def _transformed(
        self, x: Flat, origin: Index, line: Index, v: Flat, base: Index, stride: int
    ) -> Stmt:
        """BT d B of the patch that begins at `origin`, its lines `line` numbers apart."""
        edge = self._t.edge

        def vector(lines: list[Index], c: Index, n: int) -> Stmt:
            half, made = local(edge * edge * n, "float32", "half")
            steps = [made]
            for j in range(edge):
                taps = [x.load(at + (j * self._channels + c), n) for at in lines]
                steps += down(self._t, taps, half, j, n)
            return seq([*steps, *across(self._t, half, v, base + c, stride, n)])

        starts = [origin + i * line for i in range(edge)]
        return opaque_all(
            starts,
            "line",
            lambda lines: vectors(self._channels, self._lanes, lambda c, n: vector(lines, c, n)),
        )

    def store(
        self,
        m: Flat,
        tile: Index,
        base: Index,
        stride: int,
        first: Index,
        columns: int,
        out: Flat,
        epilogue: Epilogue,
    ) -> Stmt:
        (tall, wide), channels, size = self._out, self._out_channels, self._t.size

        def at(image: Index, top: Index, left: Index) -> Stmt:
            place = ((image * tall + top) * wide + left) * channels + first

            def vector(c: Index, n: int, *, cut: bool) -> Stmt:
                def put(i: Index, j: int, value: tirx.Expr) -> Stmt:
                    y = place + i * (wide * channels) + (j * channels + c)
                    stored = out.store(y, epilogue(value, y, first + c, n), n)
                    return branch(left + j < wide, stored) if cut else stored

                lines = tirx.min(size, tall - top) if cut else size
                return outputs_of(self._t, m, base + c, stride, n, lines, size, put)

            inside = tirx.all(top + size <= tall, left + size <= wide)
            whole, partly = (
                vectors(columns, self._lanes, lambda c, n, cut=cut: vector(c, n, cut=cut))
                for cut in (False, True)
            )
            return branch(inside, whole, partly)

        return self._place(tile, at)
