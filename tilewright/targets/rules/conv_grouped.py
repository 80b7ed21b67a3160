"""Convolutions in groups, channels last: a small product for each group.

    for a block of outputs: for each group:
        out[position, the group's n] = sum over kh, kw, the group's c of x[window, c] * w[c, n]

Blocks of outputs come first: a cache line of x holds channels of several groups. A depthwise
convolution with several filters per channel is one whose groups have one channel.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import Step
from tilewright.targets.rules.blocking import FEWEST_ROWS, FLOAT_BYTES, shares, undivided
from tilewright.targets.rules.contraction import Product, contraction
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import Given, Launch
from tilewright.targets.rules.tir import Index, bind, ceil_div, index, loop
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target


def block_rows(g: Geometry, target: Target) -> int:
    """Outputs of a block: their windows stay in half of L2 for all groups."""
    in_cache = target.l2_bytes // 2 // (FLOAT_BYTES * g.channels * g.kernel[0])
    share = -(-g.positions // shares(target))
    most = min(g.positions, max(FEWEST_ROWS, min(in_cache, share)))
    # Nearly equal blocks: the last two compute fewer rows twice than there are blocks.
    return -(-g.positions // -(-g.positions // most))


def product(
    name: str,
    x: Given | int,
    g: Geometry,
    w: np.ndarray,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
) -> Launch:
    """The convolution of an x that needs no padding; `w` is [n, c of a group, *kernel]."""
    (kh, kw), (dh, dw), wide = g.kernel, g.dilation, g.padded[1]
    c, n = g.group_channels, g.out_channels // g.groups
    rows, depth, lanes = block_rows(g, target), kh * kw * c, lanes_of(target)
    blocking = undivided(name, rows, n, depth, target)
    shape = (g.groups, depth, n)

    def columns() -> np.ndarray:
        return w.reshape(g.groups, n, c, kh, kw).transpose(0, 3, 4, 2, 1).reshape(shape)

    packed = packed_columns(shape, blocking.vectors * lanes, lanes, columns)
    k = WeightedKernel(name, g.x_padded, packed, g.y_last, steps, arrays, lanes)

    def tap(j: tirx.Expr) -> Index:
        return (tirx.floordiv(j, kw) * (dh * wide) + tirx.floormod(j, kw) * dw) * g.channels

    def block(first: tirx.Expr) -> Stmt:
        def group(i: tirx.Expr) -> Stmt:
            nest = Product(
                m=rows,
                n=n,
                a=k.x,
                row=lambda r: g.window(first + r) + i * c,
                neighbours=lambda r, count: [x + i * c for x in g.windows(first + r, count)],
                reduction=Reduction(kh * kw, c, tap),
                b=k.w,
                b_base=i * packed.shape[1],
                begin=lambda column, lanes: k.begin(i * n + column, lanes),
            )

            def store(r: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
                channel = i * n + column
                place = (first + index(r)) * g.out_channels + channel
                return k.store(place, channel, width, value)

            return contraction(nest, blocking, store, target, parallel=False)

        return loop(g.groups, group, "group")

    positions = k.kernel.size(g.repeats) * g.positions
    # The last block begins early enough to be whole: what two blocks compute is the same.
    body = loop(
        ceil_div(positions, rows),
        lambda b: bind(tirx.min(b * rows, positions - rows), "first", block),
        "block",
        parallel=True,
    )
    return k.launch(body, x)
