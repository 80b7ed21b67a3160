"""What a tile fetches while it computes: the rows of the next one, and its share of the next panel.

One line per k and stream, which costs a load beside a dozen multiplications; without it the first
tile that reads a line waits for L3 or memory, and for L2 in all others.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from tilewright.targets.rules.register_tile import LINE_FLOATS, Panel, Reduction, Stream
from tilewright.targets.rules.tir import Flat, Index


def next_rows(
    a: Flat,
    row: Callable[[tirx.Expr], Index],
    row_step: int,
    after: Index,
    m: Index,
    height: int,
    reduction: Reduction,
) -> tuple[Stream, ...]:
    """The rows of the next tile, which begins with row `after`; those of the first after the last.

    Rows begin `row_step` apart. What two of them share is here already.
    """
    length = reduction.length
    if not row_step or not isinstance(length, int) or row_step > length:
        return ()
    begin = row(tirx.if_then_else(after < m, after, 0)) + (length - row_step)
    return (Stream(a, begin, -(-height * row_step // length), reduction.run_offset),)


def next_panel(
    panel: Panel, depth: int, size: int, end: Index, share: Index, shares: int, length: Index
) -> tuple[Stream, ...]:
    """Share number `share` of the first `depth` rows of the next panel, `size` elements further on.

    Runs of the reduction are `length` long. The last panel of b, which ends at `end`, fetches
    itself: what lies behind is not ours to touch. In a block of many tiles, `shares`, the first one
    does not wait long enough for its panel to pay for the loads of all.
    """
    if not panel.packed or shares >= LINE_FLOATS:
        return ()
    step = -(-panel.stride // shares)
    begin = tirx.min(panel.base + size + share * (depth * step), end - depth * step)
    return (Stream(panel.b, begin, step, lambda j: j * (length * step)),)
