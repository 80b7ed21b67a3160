"""How a product is blocked: the knobs of `contraction`, from the register file, L2 and the shape.

A block of a's rows takes half of L2, and each block reads all of b: where b is larger than L2 that
is what limits the product. So rows that are too long for a block of sensible height are cut, and
the sums wait in memory for the next part of k.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.targets.rules.register_tile import lanes_of, most_rows
from tilewright.targets.rules.tir import Index
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
    # No more parts than each is long: the last one is never empty.
    most_parts = max(1, min(depth // SHORTEST_PART, SHORTEST_PART)) if cut else 1
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
