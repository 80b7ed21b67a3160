"""A blocked loop nest over register tiles: the body of every convolution and matrix product.

    parallel for piece in blocks of rows x stretches of panels:
        for panel in stretch:                  b[panel] comes from L1 or L2
            for tile in block:                 a[block] stays in L2
                register tile

Blocks are sized so that a block of a's rows takes half of L2; there is no blocking over k,
since a panel streams from L2 faster than the tile consumes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    index,
    loop,
    worth_threads,
)
from tilewright.targets.target import Target

# Enough pieces that two to sixteen threads get nearly equal shares.
PIECES = 16
# Rows of a block below which fetching the panel again costs more than a better balance gains.
FEWEST_ROWS = 24
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Blocking:
    """The knobs: tile `rows` x `vectors`, `tiles` per block of rows, `panels` per piece."""

    rows: int
    vectors: int
    tiles: int
    panels: int


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


def default_blocking(m: Index, n: int, k: Index, target: Target) -> Blocking:
    """Knobs from the register file, L2 and the shape."""
    lanes = lanes_of(target)
    rows = m if isinstance(m, int) else FEWEST_ROWS
    # Few rows leave registers free: more columns keep the multipliers busy.
    vectors = 2
    while rows * 2 * vectors < target.vector_registers and n >= 2 * vectors * lanes:
        vectors *= 2
    vectors = max(1, min(vectors, -(-n // lanes)))
    most = most_rows(target, vectors)
    depth = k if isinstance(k, int) else target.l1d_bytes // (FLOAT_BYTES * lanes)
    in_cache = max(1, target.l2_bytes // 2 // (FLOAT_BYTES * depth * most))
    tiles = -(-rows // most)
    panels = -(-n // (vectors * lanes))
    # As few blocks as L2 allows, for each reads all of b; pieces come from panels first.
    blocks = -(-tiles // in_cache)
    stretches = min(panels, -(-PIECES // blocks))
    fewest = -(-FEWEST_ROWS // most)
    while blocks * stretches < PIECES and tiles >= 2 * blocks * fewest:
        blocks *= 2
    return Blocking(most, vectors, -(-tiles // blocks), -(-panels // stretches))


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

    def at(start: Index, height: int, panel: tirx.Expr) -> Stmt:
        def of(width: int) -> Stmt:
            b = _panel(product, panel, width, wide, depth, lanes)
            rows = [product.row(start + r) for r in range(height)]
            return tile(
                rows,
                product.a,
                b,
                product.reduction,
                lanes,
                lambda r, column, n, value: store(start + r, panel * wide + column, n, value),
            )

        if not rest:
            return of(wide)
        return branch(panel < full, of(wide), of(rest)) if full else of(rest)

    def block(first: tirx.Expr, count: Index, panel: tirx.Expr) -> Stmt:
        return loop(
            count, lambda t: _tile_at(product.m, blocking.rows, first + t, panel, at), "tile"
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
                lambda s: loop(width, lambda i: block(f, count, s + i), "panel"),
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
    return Panel(product.b, product.b_base + panel * (depth * wide), stride, width, packed=True)


def _tiles(m: Index, most: int) -> Index:
    return -(-m // most) if isinstance(m, int) else tirx.floordiv(m + (most - 1), most)


def _ceil_div(a: Index, b: int) -> Index:
    return -(-a // b) if isinstance(a, int) else tirx.floordiv(a + (b - 1), b)


def _at_most(left: Index, most: int, whole: Index) -> Index:
    """How much of `whole` a step of `most` gets when `left` remains."""
    return most if isinstance(whole, int) and whole % most == 0 else tirx.min(left, most)


def _tile_at(
    m: Index,
    most: int,
    t: tirx.Expr,
    panel: tirx.Expr,
    at: Callable[[Index, int, tirx.Expr], Stmt],
) -> Stmt:
    """Tile number `t`: of two heights where m is known, overlapping at the end where it is not."""
    if isinstance(m, int):
        (count, high), *lower = heights(m, most)
        if not lower:
            return bind(t * high, "row", lambda row: at(row, high, panel))
        ((_, low),) = lower
        return branch(
            t < count,
            bind(t * high, "row", lambda row: at(row, high, panel)),
            bind(t * low + count, "row", lambda row: at(row, low, panel)),
        )
    whole = bind(tirx.min(t * most, m - most), "row", lambda row: at(row, most, panel))
    single = loop(m, lambda r: at(r, 1, panel), "single")
    return branch(m >= most, whole, single)
