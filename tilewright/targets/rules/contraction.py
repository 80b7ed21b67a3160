"""A blocked loop nest over register tiles: the body of every convolution and matrix product.

    parallel for piece in blocks of rows x stretches of panels:
        for part of k:                         one, unless rows of all k would leave L2
            for panel in stretch:              b[panel] comes from L1 or L2
                for tile in block:             a[block] stays in L2
                    register tile

Blocks are sized so that a block of a's rows takes half of L2: each block reads all of b, and where
b is larger than L2 that is what limits the product. So rows that are too long for a block of
sensible height are cut, and the sums wait in memory for the next part of k. While a panel is in
use, its tiles fetch the next one, line by line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.targets.rules.register_tile import (
    Panel,
    Reduction,
    heights,
    lanes_of,
    most_rows,
    tile,
)
from tilewright.targets.rules.tir import (
    FEWEST_PRODUCTS,
    Flat,
    Index,
    bind,
    branch,
    fill,
    index,
    loop,
    seq,
    workspace,
    worth_threads,
)
from tilewright.targets.target import Target

# Rows of a block below which fetching the panel again costs more than a better balance gains.
FEWEST_ROWS = 24
# Rows that an open size is taken for.
OPEN_ROWS = 96
# Sums of so many products take much longer than it takes to load and store the sums.
SHORTEST_PART = 256
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Blocking:
    """The knobs: tile `rows` x `vectors`, `tiles` per block of rows, `panels` per piece.

    `parts` is in how many parts k is summed.
    """

    rows: int
    vectors: int
    tiles: int
    panels: int
    parts: int = 1


@dataclass(frozen=True)
class Product:
    """What is computed: out[m, n] = sum a[row(m) + ...] * b[..., n], for m < `m`, n < `n`.

    `row(m)` is where row m of a begins. `b` begins at `b_base` and is packed:
    [panel][k][columns of a panel], panels as wide as the tile, the last one padded to whole
    vectors; or, with `b_row`, it has plain rows of that length.
    """

    m: Index
    n: int
    a: Flat
    row: Callable[[tirx.Expr], Index]
    reduction: Reduction
    b: Flat
    b_row: Index | None = None
    b_base: Index = 0


Store = Callable[[Index, Index, int, tirx.Expr], Stmt]
# The statement that computes the tile from row `start` on, `height` rows high, whose sums are those
# of the tile's slot from `row` on.
_Tile = Callable[[Index, int, Index], Stmt]


@dataclass(frozen=True)
class _Part:
    """`length` of the k, from `start` on; sums of the parts before it are in `sums`."""

    sums: Flat
    start: Index
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
    ) -> Stmt:
        """One tile; its sums are from `slot` on, `wide` to a row."""

        def begun(r: int, column: int, n: int) -> tirx.Expr:
            return self.sums.load(slot + r * wide + column, n)

        def keep(r: int, column: int, n: int, value: tirx.Expr) -> Stmt:
            return self.sums.store(slot + r * wide + column, value, n)

        moved = self.start * b.stride
        here = replace(b, base=b.base + moved, ahead=None if b.ahead is None else b.ahead + moved)
        inside = [row + self.start for row in rows]
        put = store if self.final else keep
        return tile(inside, a, here, Reduction(1, self.length), lanes, put, begun=begun)


def shares(target: Target) -> int:
    """Into how many pieces a kernel should fall: all cores then have nearly equal work."""
    return 4 * target.cores


def default_blocking(m: Index, n: int, k: Index, target: Target, cut: bool = False) -> Blocking:
    """Knobs from the register file, L2 and the shape; with `cut` k may be summed in parts."""
    lanes = lanes_of(target)
    rows = m if isinstance(m, int) else OPEN_ROWS
    # Few rows leave registers free: more columns keep the multipliers busy.
    vectors = 2
    while rows * 2 * vectors < target.vector_registers and n >= 2 * vectors * lanes:
        vectors *= 2
    vectors = max(1, min(vectors, -(-n // lanes)))
    depth = k if isinstance(k, int) else target.l1d_bytes // (FLOAT_BYTES * lanes)
    most_parts = max(1, depth // SHORTEST_PART) if cut else 1
    found = [
        _in_parts(rows, n, depth, vectors, parts, target) for parts in range(1, most_parts + 1)
    ]
    return min(found, key=lambda knobs: _traffic(knobs, rows, n, depth, target))


def _in_parts(rows: int, n: int, depth: int, vectors: int, parts: int, target: Target) -> Blocking:
    """The knobs that sum k in so many parts."""
    most = most_rows(target, vectors)
    in_cache = max(1, target.l2_bytes // 2 // (FLOAT_BYTES * -(-depth // parts) * most))
    tiles = -(-rows // most)
    panels = -(-n // (vectors * lanes_of(target)))
    wanted = shares(target)
    # As few blocks as L2 allows, for each reads all of b; pieces come from panels first.
    blocks = -(-tiles // in_cache)
    stretches = min(panels, -(-wanted // blocks))
    fewest = -(-FEWEST_ROWS // most)
    while blocks * stretches < wanted and tiles >= 2 * blocks * fewest:
        blocks *= 2
    return Blocking(most, vectors, -(-tiles // blocks), -(-panels // stretches), parts)


def _traffic(knobs: Blocking, rows: int, n: int, depth: int, target: Target) -> int:
    """Numbers that cross the border of L2, weighted."""
    blocks = -(-rows // (knobs.rows * knobs.tiles))
    stretches = -(-n // (knobs.vectors * lanes_of(target) * knobs.panels))
    b = n * depth * (blocks if FLOAT_BYTES * n * depth > target.l2_bytes // 2 else 1)
    # Stretches of one block follow each other: rows of all k are still in L2, parts of them not.
    a = rows * depth * (stretches if knobs.parts > 1 else 1)
    sums = 2 * knobs.parts * rows * n if knobs.parts > 1 else 0
    # Sums are loaded and stored by the instruction stream itself: not worth it for a little.
    return (a + b + sums) * (3 if knobs.parts > 1 else 2)


def undivided(m: int, n: int, k: int, target: Target) -> Blocking:
    """Knobs of a product that is one piece."""
    shape = default_blocking(m, n, k, target)
    panels = -(-n // (shape.vectors * lanes_of(target)))
    return Blocking(shape.rows, shape.vectors, -(-m // shape.rows), panels)


def contraction(
    product: Product, blocking: Blocking, store: Store, target: Target, *, parallel: bool = True
) -> Stmt:
    """The whole loop nest; `store(row, column, lanes, value)` puts results in their place."""
    count, piece = _pieces(product, blocking, store, target)
    work = product.m * product.n * product.reduction.runs * product.reduction.length
    parallel = parallel and worth_threads(work, FEWEST_PRODUCTS)
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

    return loop(count * each, piece, "piece", parallel=True)


def _pieces(
    product: Product, blocking: Blocking, store: Store, target: Target
) -> tuple[Index, Callable[[tirx.Expr], Stmt]]:
    """How many pieces there are, and each by its number."""
    lanes = lanes_of(target)
    wide = blocking.vectors * lanes
    full, rest = divmod(product.n, wide)
    panels = full + bool(rest)
    depth = product.reduction.runs * product.reduction.length
    stretches = -(-panels // blocking.panels)

    def tile_of(part: _Part | None, panel: tirx.Expr, slot: Index) -> _Tile:
        """What computes a tile: of all k, or of one part of it with its sums at `slot`."""

        def at(start: Index, height: int, row: Index) -> Stmt:
            begin = index(slot) + row * wide

            def of(width: int) -> Stmt:
                b = _panel(product, panel, width, wide, depth, lanes)
                rows = [product.row(start + r) for r in range(height)]
                put = lambda r, column, n, value: store(  # noqa: E731
                    start + r, panel * wide + column, n, value
                )
                if part is None:
                    return tile(rows, product.a, b, product.reduction, lanes, put)
                return part.tile(rows, product.a, b, lanes, put, begin, wide)

            if not rest:
                return of(wide)
            return branch(panel < full, of(wide), of(rest)) if full else of(rest)

        return at

    def block(
        first: tirx.Expr, count: Index, panel: tirx.Expr, part: _Part | None, number: tirx.Expr
    ) -> Stmt:
        def one(t: tirx.Expr) -> Stmt:
            slot = (t * blocking.panels + number) * (blocking.rows * wide) if part else 0
            return _tile_at(product.m, blocking.rows, first + t, tile_of(part, panel, slot))

        return loop(count, one, "tile")

    def parts(first: tirx.Expr, count: Index, start: tirx.Expr, width: Index) -> Stmt:
        def panels_of(part: _Part | None) -> Stmt:
            return loop(width, lambda i: block(first, count, start + i, part, i), "panel")

        if blocking.parts == 1:
            return panels_of(None)
        size = blocking.tiles * blocking.panels * blocking.rows * wide
        sums, made = workspace(size, "float32", "sums")
        length = -(-product.reduction.length // blocking.parts)
        final = product.reduction.length - (blocking.parts - 1) * length
        return seq(
            [
                made,
                fill(sums, 0, size, lanes),
                loop(
                    blocking.parts - 1,
                    lambda p: panels_of(_Part(sums, p * length, length, False)),
                    "part",
                ),
                panels_of(_Part(sums, index((blocking.parts - 1) * length), final, True)),
            ]
        )

    tiles = _tiles(product.m, blocking.rows)
    blocks = _ceil_div(tiles, blocking.tiles)

    def piece(p: tirx.Expr) -> Stmt:
        first = tirx.floordiv(p, stretches) * blocking.tiles
        start = tirx.floormod(p, stretches) * blocking.panels
        count = _at_most(tiles - first, blocking.tiles, tiles)
        width = _at_most(panels - start, blocking.panels, panels)
        return bind(
            first,
            "first",
            lambda f: bind(
                start,
                "start",
                lambda s: parts(f, count, s, width),
            ),
        )

    return blocks * stretches, piece


def _panel(
    product: Product, panel: tirx.Expr, width: int, wide: int, depth: Index, lanes: int
) -> Panel:
    if product.b_row is not None:
        return Panel(product.b, product.b_base + panel * wide, product.b_row, width, packed=False)
    stride = -(-width // lanes) * lanes
    # All panels before this one are full.
    base = product.b_base + panel * (depth * wide)
    # The last panel fetches itself: what lies behind b is not ours to touch.
    columns = product.n // wide * wide + -(-(product.n % wide) // lanes) * lanes
    ahead = tirx.min(base + depth * wide, product.b_base + depth * (columns - stride))
    return Panel(product.b, base, stride, width, packed=True, ahead=ahead)


def _tiles(m: Index, most: int) -> Index:
    return -(-m // most) if isinstance(m, int) else tirx.floordiv(m + (most - 1), most)


def _ceil_div(a: Index, b: int) -> Index:
    return -(-a // b) if isinstance(a, int) else tirx.floordiv(a + (b - 1), b)


def _at_most(left: Index, most: int, whole: Index) -> Index:
    """How much of `whole` a step of `most` gets when `left` remains."""
    return most if isinstance(whole, int) and whole % most == 0 else tirx.min(left, most)


def _tile_at(m: Index, most: int, t: tirx.Expr, at: _Tile) -> Stmt:
    """Tile number `t`: of two heights where m is known, overlapping at the end where it is not."""
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
    whole = bind(tirx.min(t * most, m - most), "row", lambda row: at(row, most, 0))
    single = loop(m, lambda r: at(r, 1, r), "single")
    return branch(m >= most, whole, single)
