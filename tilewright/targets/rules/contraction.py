"""A blocked loop nest over register tiles: the body of every convolution and matrix product.

    parallel for piece in blocks of rows x stretches of panels:
        for part of k:                         one, unless a panel of all k would leave L1
            for panel in stretch:              b[panel] comes from L1 or L2
                for tile in block:             a[block] stays in L2
                    register tile

How large the blocks are says `blocking`. Each tile fetches its share of the next panel, or the rows
of the next tile where all of b stays in L2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.targets.rules.blocking import FLOAT_BYTES, Blocking
from tilewright.targets.rules.fetching import next_panel, next_rows
from tilewright.targets.rules.register_tile import (
    Panel,
    Reduction,
    Stream,
    heights,
    lanes_of,
    tile,
)
from tilewright.targets.rules.tir import (
    FEWEST_PRODUCTS,
    Flat,
    Index,
    bind,
    branch,
    ceil_div,
    fill,
    index,
    loop,
    opaque,
    seq,
    workspace,
    worth_threads,
)
from tilewright.targets.target import Target


@dataclass(frozen=True)
class Product:
    """What is computed: out[m, n] = sum a[row(m) + ...] * b[..., n], for m < `m`, n < `n`.

    `row(m)` is where row m of a begins. `b` begins at `b_base` and is packed:
    [panel][k][columns of a panel], panels as wide as the tile, the last one padded to whole
    vectors. `row_step` is how far apart neighbouring rows of a begin, 0 where that differs.

    There are `repeats` times as many rows. `m` is a number then: no tile reaches from one time into
    the next, so that each is computed as if it were alone, without a tail.

    With `lines` the panels of b are packed by cache lines: [panel][line][k][columns of a line].
    Where `b_row` is not 0, b is not packed: [k][n], with rows of that length.

    `neighbours(m, count)` says where rows m ... m + count begin, if that is quicker together, and
    `begin(n, lanes)` what the sums of `lanes` columns start from, if not 0.
    """

    m: Index
    n: int
    a: Flat
    row: Callable[[tirx.Expr], Index]
    reduction: Reduction
    b: Flat
    b_base: Index = 0
    row_step: int = 0
    repeats: Index = 1
    lines: bool = False
    b_row: int = 0
    neighbours: Callable[[Index, int], list[Index]] | None = None
    begin: Callable[[Index, int], tirx.Expr] | None = None

    @property
    def rows(self) -> Index:
        """All rows."""
        return self.repeats * self.m

    @property
    def work(self) -> Index:
        """Multiplications, each with an addition."""
        return self.rows * self.n * self.reduction.runs * self.reduction.length

    def each(self, m: Index, count: int) -> list[Index]:
        """Where the rows m ... m + count begin, one by one."""
        return [self.row(m + r) for r in range(count)]


Store = Callable[[Index, Index, int, tirx.Expr], Stmt]
# The statement that computes the tile from row `start` on, `height` rows high, whose sums are those
# of the tile's slot from `row` on.
_Tile = Callable[[Index, int, Index], Stmt]


@dataclass(frozen=True)
class _Part:
    """`length` of the k, from `start` on, which is `inside` a row of a.

    What the parts before it come to is in `sums`.
    """

    sums: Flat
    start: Index
    inside: Index
    length: int
    final: bool

    def tile(
        self,
        rows: list[Index],
        a: Flat,
        b: Panel,
        lanes: int,
        store: Callable[[int, int, int, tirx.Expr], Stmt],
        slot: Index,
        wide: int,
        begun: Callable[[int, int, int], tirx.Expr] | None,
        **how: Any,
    ) -> Stmt:
        """One tile; its sums are from `slot` on, `wide` to a row. The last part adds `begun`.

        Each part is a sum of its own, which errs less than one sum that goes on: of the sizes of
        all sums between, those of a part are smaller (Higham, "Accuracy and Stability of Numerical
        Algorithms", 2nd ed., section 4.2, pairwise summation in larger pieces).
        """

        def put(r: int, column: int, n: int, value: tirx.Expr) -> Stmt:
            at = slot + r * wide + column
            total = value + self.sums.load(at, n)
            return store(r, column, n, total) if self.final else self.sums.store(at, total, n)

        here = replace(b, base=b.base + self.start * b.stride)
        inside = [row + self.inside for row in rows]
        reduction = Reduction(1, self.length)
        first = begun if self.final else None
        return tile(inside, a, here, reduction, lanes, put, begun=first, **how)


def contraction(
    product: Product, blocking: Blocking, store: Store, target: Target, *, parallel: bool = True
) -> Stmt:
    """The whole loop nest; `store(row, column, lanes, value)` puts results in their place."""
    count, piece = _pieces(product, blocking, store, target)
    parallel = parallel and worth_threads(product.work, FEWEST_PRODUCTS)
    return loop(count, piece, "piece", parallel=parallel)


def contractions(
    count: int,
    nest: Callable[[tirx.Expr], tuple[Product, Store]],
    blocking: Blocking,
    target: Target,
) -> Stmt:
    """`count` products of the same sizes; `nest(i)` is number i and where its results go."""
    first, store = nest(index(0))
    each, _ = _pieces(first, blocking, store, target)

    def piece(p: tirx.Expr) -> Stmt:
        def of(i: tirx.Expr) -> Stmt:
            product, store = nest(i)
            return _pieces(product, blocking, store, target)[1](tirx.floormod(p, each))

        return bind(tirx.floordiv(p, each), "number", of)

    parallel = worth_threads(count * first.work, FEWEST_PRODUCTS)
    return loop(count * each, piece, "piece", parallel=parallel)


def _pieces(
    product: Product, blocking: Blocking, store: Store, target: Target
) -> tuple[Index, Callable[[tirx.Expr], Stmt]]:
    """How many pieces there are, and each by its number."""
    nest = _Nest(product, blocking, store, target)
    return nest.count, nest.piece


class _Nest:
    """The loops of one product, from the pieces down to the tiles."""

    def __init__(self, product: Product, blocking: Blocking, store: Store, target: Target) -> None:
        self._product, self._blocking, self._store = product, blocking, store
        self._lanes, self._registers = lanes_of(target), target.vector_registers
        self._wide = blocking.vectors * self._lanes
        self._full, self._rest = divmod(product.n, self._wide)
        self._panels = self._full + bool(self._rest)
        self._stretches = -(-self._panels // blocking.panels)
        self._tiles = product.repeats * ceil_div(product.m, blocking.rows)
        self._depth = product.reduction.runs * product.reduction.length
        # What of a panel that is fetched early is there when it is read.
        self._kept = target.l2_bytes // 2
        self._b_leaves_l2 = product.b.size * FLOAT_BYTES > self._kept

    @property
    def count(self) -> Index:
        """Blocks of rows times stretches of panels."""
        return ceil_div(self._tiles, self._blocking.tiles) * self._stretches

    def piece(self, p: tirx.Expr) -> Stmt:
        """One block of rows with one stretch of panels."""
        tiles, panels = self._blocking.tiles, self._blocking.panels
        first = tirx.floordiv(p, self._stretches) * tiles
        start = tirx.floormod(p, self._stretches) * panels
        count = _at_most(self._tiles - first, tiles, self._tiles)
        width = _at_most(self._panels - start, panels, self._panels)
        return bind(
            first,
            "first",
            lambda f: bind(start, "start", lambda s: self._parts(f, count, s, width)),
        )

    def _parts(self, first: tirx.Expr, count: Index, start: tirx.Expr, width: Index) -> Stmt:
        knobs, reduction = self._blocking, self._product.reduction

        def panels(part: _Part | None) -> Stmt:
            return loop(width, lambda i: self._block(first, count, start + i, part, i), "panel")

        if knobs.parts == 1:
            return panels(None)
        size = knobs.tiles * knobs.panels * knobs.rows * self._wide
        sums, made = workspace(size, "float32", "sums")
        # Of one run the last part may be shorter; of several all are equal (`blocking`).
        each = knobs.parts // reduction.runs
        length = -(-reduction.length // each)
        done = (knobs.parts - 1) * length

        def inside(p: tirx.Expr) -> Index:
            run, at = tirx.floordiv(p, each), tirx.floormod(p, each)
            return reduction.run_offset(run) + at * length

        def part(p: tirx.Expr) -> Stmt:
            return panels(_Part(sums, p * length, inside(p), length, False))

        last = index(knobs.parts - 1)
        final = _Part(sums, index(done), inside(last), self._depth - done, True)
        earlier = loop(knobs.parts - 1, part, "part")
        return seq([made, fill(sums, 0, size, self._lanes), earlier, panels(final)])

    def _block(
        self,
        first: tirx.Expr,
        count: Index,
        panel: tirx.Expr,
        part: _Part | None,
        number: tirx.Expr,
    ) -> Stmt:
        """All tiles of a block with one panel, the `number`th of its stretch."""
        knobs = self._blocking

        def one(t: tirx.Expr) -> Stmt:
            slot = (t * knobs.panels + number) * (knobs.rows * self._wide)

            def at(start: Index, height: int, row: Index) -> Stmt:
                return self._tile(part, panel, slot + row * self._wide, start, height, t)

            return _tile_at(self._product, knobs.rows, first + t, at)

        return loop(count, one, "tile")

    def _tile(
        self,
        part: _Part | None,
        panel: tirx.Expr,
        slot: Index,
        start: Index,
        height: int,
        number: tirx.Expr,
    ) -> Stmt:
        """Rows from `start` on: the sums of all k, or of one part of it, kept at `slot`.

        It is tile `number` of its block.
        """
        product, wide = self._product, self._wide
        rows = (product.neighbours or product.each)(start, height)

        def put(r: int, column: int, n: int, value: tirx.Expr) -> Stmt:
            return self._store(start + r, panel * wide + column, n, value)

        def begun(_row: int, column: int, n: int) -> tirx.Expr:
            return product.begin(panel * wide + column, n)

        def of(width: int) -> Stmt:
            b = self._panel(panel, width)
            how = {
                "begun": begun if product.begin else None,
                "streams": self._streams(b, part, number, start + height, height),
                "registers": self._registers,
            }
            if part is None:
                return tile(rows, product.a, b, product.reduction, self._lanes, put, **how)
            return part.tile(rows, product.a, b, self._lanes, put, slot, wide, **how)

        if not self._rest:
            return of(wide)
        full = self._full
        return branch(panel < full, of(wide), of(self._rest)) if full else of(self._rest)

    def _panel(self, panel: tirx.Expr, width: int) -> Panel:
        """Panel number `panel`, of which `width` columns are wanted."""
        product, wide = self._product, self._wide
        if product.b_row:
            start = product.b_base + panel * wide
            return Panel(product.b, start, product.b_row, width, packed=False)
        # All panels before this one are full.
        base = product.b_base + panel * (self._depth * wide)
        stride, lines = -(-width // self._lanes) * self._lanes, self._depth if product.lines else 0
        return Panel(product.b, base, stride, width, packed=True, lines=lines)

    def _streams(
        self, b: Panel, part: _Part | None, number: tirx.Expr, after: Index, height: int
    ) -> tuple[Stream, ...]:
        """What tile `number` of a block fetches, `height` rows before row `after`."""
        product, tiles = self._product, self._blocking.tiles
        reduction = product.reduction
        if product.b_row or product.lines:
            return ()
        if self._b_leaves_l2:
            size, length = self._depth * b.stride, self._depth if part is None else part.length
            if length * b.stride * FLOAT_BYTES > self._kept:
                return ()
            if part is None:
                return next_panel(b, self._depth, size, number, tiles, reduction.length)
            moved = replace(b, base=b.base + part.start * b.stride)
            return next_panel(moved, part.length, size, number, tiles, part.length)
        if part is not None or (isinstance(product.m, int) and product.m <= self._blocking.rows):
            return ()
        return next_rows(
            *(product.a, product.row, product.row_step, after, product.rows, height, reduction)
        )


def _at_most(left: Index, most: int, whole: Index) -> Index:
    """How much of `whole` a step of `most` gets when `left` remains."""
    return most if isinstance(whole, int) and whole % most == 0 else tirx.min(left, most)


def _tile_at(product: Product, most: int, t: tirx.Expr, at: _Tile) -> Stmt:
    """Tile number `t` of all of them."""
    m = product.m
    if isinstance(product.repeats, int):
        return _tile_of(m, most, t, at)
    each = ceil_div(m, most)
    inside = lambda start: _tile_of(  # noqa: E731
        *(m, most, tirx.floormod(t, each)),
        lambda row, height, slot: at(start + row, height, slot),
    )
    return opaque(tirx.floordiv(t, each) * m, "start", inside)


def _tile_of(m: Index, most: int, t: tirx.Expr, at: _Tile) -> Stmt:
    """Tile `t` of m rows: of two heights where m is known, overlapping at the end where not."""
    if isinstance(m, int):
        (count, high), *lower = heights(m, most)
        if not lower:
            return bind(t * high, "row", lambda row: at(row, high, 0))
        ((_, low),) = lower
        return branch(
            t < count,
            bind(t * high, "row", lambda row: at(row, high, 0)),
            bind(t * low + count, "row", lambda row: at(row, low, 0)),
        )
    if most == 1:
        # There is a row for every tile; of m < 1 TVM would learn that it divides by zero.
        return bind(t, "row", lambda row: at(row, 1, 0))
    whole = opaque(tirx.min(t * most, m - most), "row", lambda row: at(row, most, 0))
    single = loop(m, lambda r: at(r, 1, r), "single")
    return branch(m >= most, whole, single)
