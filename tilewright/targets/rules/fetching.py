"""What a tile fetches while it computes: rows of the next tile, or its share of the next panel.

One line per k, which is a load beside a dozen multiplications. Without it the tile that reads a
line first waits for it. Both at once would cost more than the second saves: where b is read again
and again from L2, the rows come from further away; where it is not, the rows are in L2 after the
first panel.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from tilewright.targets.rules.register_tile import Panel, Reduction, Stream
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
    panel: Panel, depth: int, size: int, share: Index, shares: int, length: Index
) -> tuple[Stream, ...]:
    """Share number `share` of the first `depth` rows of the next panel, `size` elements further on.

    Runs of the reduction are `length` long. The end of b fetches itself: what lies behind is not
    ours to touch.
    """
    step = -(-panel.stride // shares)
    begin = panel.base + size + share * (depth * step)
    inside = tirx.min(begin, panel.b.size - depth * step)
    return (Stream(panel.b, inside, step, lambda j: j * (length * step)),)
