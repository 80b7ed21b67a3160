"""How a product is blocked: the knobs of `contraction`, from the register file, caches and shape.

A panel of b stays in L1 while the tiles of a block use it, and the block's rows of a in L2. Rows
that are too long for that are cut: the sums wait in L2 for the next part of k. Source: Goto and van
de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication", section 4.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tilewright.targets.rules.knobs import note, pick, scaled
from tilewright.targets.rules.register_tile import lanes_of, most_rows
from tilewright.targets.rules.tir import Index
from tilewright.targets.target import Target

# Rows of a block below which fetching the panel again costs more than a better balance gains.
FEWEST_ROWS = 24
# Rows that an open size is taken for.
OPEN_ROWS = 96
# Sums of so many products take much longer than it takes to load and store the sums.
SHORTEST_PART = 128
# The share of L1 that a panel may take: the rest is for the rows of this tile and the next.
PANEL_SHARE = 3 / 4
# A core that is slower than the others for a while delays all by a piece: there are more of them
# where they cost nothing, as stretches of panels do.
STRETCHES = 4
FLOAT_BYTES = 4
# Tiles that are tried beside the default: vectors and rows.
MOST_VECTORS = 4
MOST_TRIED = 12


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
    """Into how many pieces a kernel should fall at least: all cores then have nearly equal work."""
    return 4 * target.cores


def default_blocking(
    kernel: str, m: int | None, n: int, k: Index, target: Target, runs: int = 0
) -> Blocking:
    """Knobs of `kernel` from the register file, the caches and the shape; m is None where open.

    With `runs`, how many runs the reduction has, k may be summed in parts.
    """
    lanes = lanes_of(target)
    rows = OPEN_ROWS if m is None else m
    vectors, most = _tile(kernel, rows, n, target)
    depth = k if isinstance(k, int) else target.l1d_bytes // (FLOAT_BYTES * lanes)
    parts = 1
    if runs:
        parts = _parts(rows, depth, runs, vectors * lanes, target)
        parts = pick(kernel, "parts", _cuts(depth, runs, parts), parts)
    # Half of L2 is for a block; sums that wait take half of that.
    room = target.l2_bytes // (2 if parts == 1 else 4)
    in_cache = max(1, room // (FLOAT_BYTES * -(-depth // parts) * most))
    tiles = -(-rows // most)
    panels = -(-n // (vectors * lanes))
    wanted = shares(target)
    # As few blocks as L2 allows, for each reads all of b; pieces come from panels first.
    blocks = -(-tiles // in_cache)
    stretches = min(panels, -(-STRETCHES * wanted // blocks))
    fewest = -(-FEWEST_ROWS // most)
    while blocks * stretches < wanted and tiles >= 2 * blocks * fewest:
        blocks *= 2
    height = pick(kernel, "tiles", scaled(-(-tiles // blocks), tiles), -(-tiles // blocks))
    if parts > 1:
        sums = FLOAT_BYTES * height * most * vectors * lanes
        stretches = max(stretches, -(-panels // max(1, room // sums)))
    width = -(-panels // stretches)
    width = pick(kernel, "panels", scaled(width, panels), width)
    return _noted(kernel, rows, n, depth, Blocking(most, vectors, height, width, parts))


def _tile(kernel: str, rows: int, n: int, target: Target) -> tuple[int, int]:
    """Vectors and rows of the register tile."""
    lanes = lanes_of(target)
    count = -(-n // lanes)
    # An odd number of vectors in pairs leaves one alone: too few sums to keep the multipliers busy.
    vectors = 3 if count % 2 and count > 1 and rows > most_rows(target, 2) else 2
    # Few rows leave registers free: more columns keep the multipliers busy.
    while rows * 2 * vectors < target.vector_registers and n >= 2 * vectors * lanes:
        vectors *= 2
    vectors = min(vectors, count)
    vectors = pick(kernel, "vectors", range(1, min(count, MOST_VECTORS) + 1), vectors)
    most = most_rows(target, vectors)
    fit = max(1, (target.vector_registers - vectors - 1) // vectors)
    return vectors, pick(kernel, "rows", range(-(-most // 2), min(fit, MOST_TRIED) + 1), most)


def _cuts(depth: int, runs: int, default: int) -> list[int]:
    """In how many parts k may be summed, near what is the default."""
    if runs == 1:
        return [
            -(-depth // -(-depth // n)) for n in scaled(default, max(1, depth // SHORTEST_PART))
        ]
    length = depth // runs
    near = [n for n in range(1, length // SHORTEST_PART + 1) if length % n == 0]
    return [1, *(runs * n for n in near if runs * n <= 4 * default)]


def _parts(rows: int, depth: int, runs: int, wide: int, target: Target) -> int:
    """In how many parts k is summed: one where a panel fits L1, or few tiles would use it."""
    row = FLOAT_BYTES * wide
    if rows < FEWEST_ROWS or depth * row <= target.l1d_bytes:
        return 1
    most = int(PANEL_SHARE * target.l1d_bytes / row)
    length = depth // runs
    if runs == 1:
        return -(-depth // -(-depth // -(-depth // most)))
    # Parts of a run are equal, and not too short.
    found = [n for n in range(1, length // SHORTEST_PART + 1) if length % n == 0]
    return runs * next((n for n in found if length <= n * most), 0) or 1


def undivided(kernel: str, m: int, n: int, k: int, target: Target) -> Blocking:
    """Knobs of a product that is one piece."""
    vectors, rows = _tile(kernel, m, n, target)
    panels = -(-n // (vectors * lanes_of(target)))
    return _noted(kernel, m, n, k, Blocking(rows, vectors, -(-m // rows), panels))


def _noted(kernel: str, m: int, n: int, k: int, blocking: Blocking) -> Blocking:
    note(kernel, m=m, n=n, k=k, **asdict(blocking))
    return blocking
