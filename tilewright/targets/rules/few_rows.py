"""A few rows by a matrix that only a run tells: it is read once, along its rows.

    parallel for piece of columns:                  sums[m, piece] stay in L1
        for k in steps of STEPS / m:
            for vector of columns:
                sums[:, vector] += x[:, k] w[k, vector] + x[:, k + 1] w[k + 1, vector] + ...

A tile in registers would read a few columns of every row, which no prefetcher foresees.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.targets.rules.blocking import FLOAT_BYTES
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.tir import (
    FEWEST_PRODUCTS,
    Flat,
    Index,
    bind,
    branch,
    by_vectors,
    ceil_div,
    loop,
    seq,
    workspace,
    worth_threads,
)
from tilewright.targets.target import Target

# Rows of x from which on a tile in registers is faster: it loads and stores no sums.
MOST_ROWS = 4
# Numbers of x that are kept in registers, each in all lanes of one.
STEPS = 8
# Columns of a piece that are worth a stream of their own.
FEWEST_COLUMNS = 128

Begin = Callable[[Index, int], tirx.Expr]
Store = Callable[[tirx.Expr, Index, Index, int, tirx.Expr], Stmt]


def few_rows(
    x: Flat, w: Flat, sizes: tuple[int, int, int, int], begin: Begin, store: Store, target: Target
) -> Stmt:
    """`count` products of x [count, m, k] and w [count, k, n], all as `sizes` says.

    The sums of `lanes` columns start from `begin(column, lanes)`; `store(number, row, column,
    lanes, value)` puts those of one product in their place.
    """
    count, m, depth, n = sizes
    lanes = lanes_of(target)
    wide = _columns(count, m, n, lanes, target)
    across = ceil_div(n, wide)
    sums, made = workspace(m * wide, "float32", "sums")

    def piece(p: tirx.Expr) -> Stmt:
        return bind(
            tirx.floordiv(p, across),
            "number",
            lambda number: bind(
                tirx.floormod(p, across) * wide, "first", lambda first: part(number, first)
            ),
        )

    def part(number: tirx.Expr, first: tirx.Expr) -> Stmt:
        whole = columns(number, first, wide)
        if n % wide == 0:
            return whole
        return branch(first + wide <= n, whole, columns(number, first, n % wide))

    def columns(number: tirx.Expr, first: tirx.Expr, width: int) -> Stmt:
        each = max(1, STEPS // m)
        full, rest = divmod(depth, each)

        def add(k: Index, steps: int) -> Stmt:
            def vector(at: Index, size: int) -> Stmt:
                rows = []
                for r in range(m):
                    value = sums.load(r * wide + at, size)
                    for i in range(steps):
                        factor = x.splat((number * m + r) * depth + k + i, size)
                        place = (number * depth + k + i) * n + first + at
                        value = value + factor * w.load(place, size)
                    rows.append(sums.store(r * wide + at, value, size))
                return seq(rows)

            return by_vectors(width, lanes, vector)

        def put(r: int) -> Stmt:
            def vector(at: Index, size: int) -> Stmt:
                return store(number, r, first + at, size, sums.load(r * wide + at, size))

            return by_vectors(width, lanes, vector)

        def start(r: int) -> Stmt:
            def vector(at: Index, size: int) -> Stmt:
                return sums.store(r * wide + at, begin(first + at, size), size)

            return by_vectors(width, lanes, vector)

        steps = [start(r) for r in range(m)]
        if full:
            steps.append(loop(full, lambda k: add(k * each, each), "k"))
        if rest:
            steps.append(add(full * each, rest))
        return seq([*steps, *(put(r) for r in range(m))])

    parallel = worth_threads(count * m * depth * n, FEWEST_PRODUCTS)
    return loop(count * across, lambda p: seq([made, piece(p)]), "piece", parallel=parallel)


def _columns(count: int, m: int, n: int, lanes: int, target: Target) -> int:
    """Columns of a piece: its sums take half of L1 at most, and there are enough pieces."""
    most = target.l1d_bytes // 2 // (FLOAT_BYTES * m)
    wanted = max(FEWEST_COLUMNS, n // -(-target.cores // count))
    return max(lanes, min(most, wanted, n) // lanes * lanes)
