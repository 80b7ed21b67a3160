"""Passes over values that lie side by side: each one, and what they come to together."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.targets.rules.tir import Flat, Index, index, local, loop, number, pieces, seq

# Chains of a reduction that run side by side, so that no step waits for the one before.
CHAINS = 4

Combine = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


def each(length: int, lanes: int, body: Callable[[Index, int], Stmt]) -> Stmt:
    """`body(at, n)` for vectors of n elements that cover `length` elements."""
    full, rest = divmod(length, lanes)
    steps = [loop(full, lambda i: body(index(i) * lanes, lanes), "i")] if full else []
    return seq([*steps, *(body(full * lanes + at, n) for at, n in pieces(rest, lanes))])


def reduce_into(
    result: Flat,
    place: int,
    length: int,
    lanes: int,
    term: Callable[[Index, int], tirx.Expr],
    combine: Combine,
    neutral: float,
) -> Stmt:
    """result[place] = combine(result[place], all of term(at, n)), in vectors of n elements.

    `combine` may be applied in any order; with `neutral` it gives its other operand.
    """
    full, rest = divmod(length, lanes)
    groups, single = divmod(full, CHAINS)
    acc, made = local(CHAINS * lanes, "float32", "acc")
    start = number(neutral, "float32", lanes)
    steps = [made, *(acc.store(c * lanes, start, lanes) for c in range(CHAINS))]

    def take(c: int, at: Index, n: int) -> Stmt:
        return acc.store(c * lanes, combine(term(at, n), acc.load(c * lanes, n)), n)

    def group(g: tirx.Expr) -> Stmt:
        return seq(take(c, (index(g) * CHAINS + c) * lanes, lanes) for c in range(CHAINS))

    if groups:
        steps.append(loop(groups, group, "group"))
    steps += [take(c, (groups * CHAINS + c) * lanes, lanes) for c in range(single)]
    steps += [take(0, full * lanes + at, n) for at, n in pieces(rest, lanes)]
    chains = [acc.load(c * lanes, lanes) for c in range(CHAINS)]
    while len(chains) > 1:
        chains = [combine(a, b) for a, b in zip(chains[::2], chains[1::2], strict=True)]
    # In a place of its own: what is read in vectors of several lengths stays in no register.
    folded, made = local(lanes, "float32", "folded")
    steps += [made, folded.store(0, chains[0], lanes)]
    width = lanes
    while width > 1:
        width //= 2
        halves = combine(folded.load(0, width), folded.load(width, width))
        steps.append(folded.store(0, halves, width))
    return seq([*steps, result.store(place, combine(folded.load(0), result.load(place)))])
