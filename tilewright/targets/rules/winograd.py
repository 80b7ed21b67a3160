"""3x3 convolutions by Winograd's algorithm, channels last: 2.25 to 4 times fewer multiplications.

    V[i, tile, :] = BT d B          the input, tile by tile, one matrix for each of edge^2 products
    M[i, tile, :] = V[i] @ U[i]     U = G w GT, transformed at compile time
    out           = AT M A          then the steps of the store

Outputs are cut into tiles of size x size; a tile reads edge x edge inputs, edge = size + 2, which
overlap those of its neighbours. x is read as it lies: what a tile reads beyond it is 0 and is left
out of the sums. Tiles at the bottom and the right may reach over the end of the result.

Where there are many tiles, one kernel does all three for blocks of them, and a block's V and M stay
in L2. Else each is a kernel of its own, and the matrices are the pieces that run in parallel.
Where spatial sizes are open it is always blocks (winograd_open.py).

Source: Lavin and Gray 2016, arXiv:1509.09308. The error is larger than a plain sum's
(winograd_matrices.py, docs/verification.md), which is why the rule refuses exact compilations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec, Step
from tilewright.targets.rules import conv, conv_open
from tilewright.targets.rules.blocking import FLOAT_BYTES, Blocking, shares, undivided
from tilewright.targets.rules.contraction import Product, Store, contraction, contractions
from tilewright.targets.rules.epilogue import Epilogue, epilogue_operands
from tilewright.targets.rules.estimate import product_cycles, stream_cycles
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.knobs import pick, scaled
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of, most_rows
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Packed, Rule
from tilewright.targets.rules.tir import (
    Index,
    Kernel,
    bind,
    ceil_div,
    index,
    loop,
    opaque,
    pieces,
    seq,
    workspace,
)
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.rules.winograd_matrices import POINTS, TAPS, transformed_weights
from tilewright.targets.rules.winograd_open import OpenTiling
from tilewright.targets.rules.winograd_tiles import Tiling, spread
from tilewright.targets.target import Target

# Register tiles of a block: with fewer the weights, read once a block, are read too often.
FEWEST, MOST = 2, 4
# Panels of results that a block computes before it transforms them: M takes as much of L2 as V.
STRIP = 4
# Rows and columns that open sizes are taken for.
OPEN_SIZE = (64, 64)
# For one vector of V or M: it is loaded and stored twice, and a few multiply-adds go into it.
TRANSFORM_CYCLES = 4


def input_transform(name: str, x: Given | int, tiling: Tiling, target: Target) -> Launch:
    """V from x."""
    kernel = Kernel(name)
    values = kernel.param(tiling.g.x_last, "float32", "x")
    shape = tiling.shape(tiling.g.channels)
    out = kernel.param(shape, "float32", "v")
    tiles = tiling.within(kernel, target)

    def one(tile: Index) -> Stmt:
        return tiles.transform(values, out, tile, tiling.row(tile, tiling.g.channels), shape[-1])

    body = loop(tiles.count, one, "tile", parallel=True)
    return Launch(kernel.finish(body), (x,), shape, "float32")


def products(name: str, v: int, w: np.ndarray, tiling: Tiling, target: Target) -> Launch:
    """M from V and the weights, [n, c, 3, 3]."""
    n, depth = tiling.g.out_channels, tiling.g.channels
    # One matrix is a piece: there are enough of them.
    blocking = undivided(name, tiling.tiles, n, depth, target)
    packed = _packed(w, tiling, blocking, target)
    kernel = Kernel(name)
    v_shape, m_shape = tiling.shape(depth), tiling.shape(n)
    values = kernel.param(v_shape, "float32", "v")
    weights = kernel.param(packed.shape, "float32", "u")
    out = kernel.param(m_shape, "float32", "m")

    def nest(i: tirx.Expr) -> tuple[Product, Store]:
        product = Product(
            m=tiling.tiles,
            n=n,
            a=values,
            row=lambda r: i * v_shape[-1] + tiling.row(r, depth),
            reduction=Reduction(1, depth),
            b=weights,
            b_base=i * packed.shape[1],
            row_step=depth,
            repeats=kernel.size(tiling.g.repeats),
        )

        def store(row: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
            place = i * m_shape[-1] + tiling.row(index(row), n) + column
            return out.store(place, value, width)

        return product, store

    body = contractions(tiling.matrices, nest, blocking, target)
    return Launch(kernel.finish(body), (v, packed), m_shape, "float32")


def _packed(
    w: np.ndarray, tiling: Tiling | OpenTiling, blocking: Blocking, target: Target
) -> Packed:
    """U as [matrices][panels]."""
    lanes, (n, c) = lanes_of(target), w.shape[:2]
    return packed_columns(
        (tiling.matrices, c, n),
        blocking.vectors * lanes,
        lanes,
        lambda: transformed_weights(w, tiling.transforms),
    )


def output_transform(
    name: str,
    m: int,
    tiling: Tiling,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
) -> Launch:
    """The result from M."""
    g = tiling.g
    kernel = Kernel(name)
    shape = tiling.shape(g.out_channels)
    values = kernel.param(shape, "float32", "m")
    operands, inputs = epilogue_operands(kernel, arrays, g.out_channels, g.y_last, lanes_of(target))
    out = kernel.param(g.y_last, "float32", "y")
    epilogue, tiles = Epilogue(steps, operands), tiling.within(kernel, target)

    def one(tile: Index) -> Stmt:
        base, n = tiling.row(tile, g.out_channels), g.out_channels
        return tiles.store(values, tile, base, shape[-1], 0, n, out, epilogue)

    body = loop(tiles.count, one, "tile", parallel=True)
    return Launch(kernel.finish(body), (m, *inputs), g.y_last, "float32")


def blocked(
    name: str,
    x: Given | int,
    w: np.ndarray,
    tiling: Tiling | OpenTiling,
    rows: int,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
) -> Launch:
    """The whole convolution, in blocks of `rows` tiles; at most as many where sizes are open."""
    n, depth = w.shape[:2]
    blocking = undivided(name, rows, n, depth, target)
    packed = _packed(w, tiling, blocking, target)
    k = WeightedKernel(name, tiling.x_last, packed, tiling.y_last, steps, arrays, lanes_of(target))
    tiles = tiling.within(k.kernel, target)
    strip = STRIP * blocking.vectors * lanes_of(target)
    v_stride = spread(rows * depth)

    def block(first: tirx.Expr, high: int, count: Index) -> Stmt:
        """`count` times `high` tiles from number `first` on."""
        v, made = workspace(tiling.matrices * v_stride, "float32", "v")

        def row(t: Index) -> Stmt:
            return tiles.transform(k.x, v, first + t, t * depth, v_stride)

        def columns(start: tirx.Expr, wide: int) -> Stmt:
            """The results of the block in columns `start` ... of n."""
            m_stride = spread(rows * wide)
            m, made = workspace(tiling.matrices * m_stride, "float32", "m")

            def matrix(i: tirx.Expr) -> Stmt:
                product = Product(
                    m=high,
                    n=wide,
                    a=v,
                    row=lambda r: i * v_stride + r * depth,
                    reduction=Reduction(1, depth),
                    b=k.w,
                    b_base=i * packed.shape[1] + start * depth,
                    repeats=count,
                )

                def store(row: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
                    return m.store(i * m_stride + index(row) * wide + column, value, width)

                return contraction(product, blocking, store, target, parallel=False)

            def row(t: Index) -> Stmt:
                place = (t * wide, m_stride, start, wide)
                return tiles.store(m, first + t, *place, k.y, k.epilogue)

            products = loop(tiling.matrices, matrix, "matrix")
            return seq([made, products, loop(count * high, row, "row")])

        whole, rest = divmod(n, strip)
        parts = [made, loop(count * high, row, "row")]
        if whole:
            parts.append(loop(whole, lambda s: columns(s * strip, strip), "strip"))
        if rest:
            parts.append(columns(index(whole * strip), rest))
        return seq(parts)

    if isinstance(tiling, Tiling):
        step = rows

        def numbered(b: tirx.Expr) -> Stmt:
            # The last block begins early enough to be whole: what two compute is the same.
            first = tirx.min(b * step, tiles.count - step)
            return bind(first, "first", lambda first: block(first, step, 1))
    else:
        high = min(blocking.rows, rows)
        step = rows // high * high

        def numbered(b: tirx.Expr) -> Stmt:
            first = b * step
            left = tirx.min(ceil_div(tiles.count - first, high), rows // high)
            return opaque(left, "high", lambda count: block(first, high, count))

    return k.launch(loop(ceil_div(tiles.count, step), numbered, "block", parallel=True), x)


def block_rows(tiling: Tiling, target: Target) -> int | None:
    """Tiles of a block; None where blocks would be too few or too small."""
    most = most_rows(target, 2)
    in_cache = target.l2_bytes // 2 // (FLOAT_BYTES * tiling.matrices * tiling.g.channels)
    rows = min(in_cache, MOST * most, tiling.tiles // shares(target)) // most * most
    return rows if rows >= FEWEST * most else None


def winograd(
    names: Names,
    x: Given | int,
    w: np.ndarray,
    tiling: Tiling,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
) -> tuple[Launch, ...]:
    """The convolution, as the first launches of a group."""
    default = block_rows(tiling, target) or 0
    step = most_rows(target, 2)
    blocks = [rows // step * step for rows in scaled(default or FEWEST * step, tiling.tiles)]
    if rows := pick(names.base, "block_rows", [0, *blocks], default):
        return (blocked(names.next(), x, w, tiling, rows, steps, arrays, target),)
    return (
        input_transform(names.next("input"), x, tiling, target),
        products(names.next("products"), 0, w, tiling, target),
        output_transform(names.next(), 1, tiling, steps, arrays, target),
    )


def best_size(g: Geometry, target: Target, sizes: Iterable[int] = POINTS) -> int | None:
    """Of `sizes` of tiles that which takes the fewest cycles; None where the direct nest does."""
    c, n = g.channels, g.out_channels
    direct = product_cycles(g.positions, n, TAPS * TAPS * c, target)
    cycles: dict[int | None, float] = {None: direct}
    for size in sizes:
        tiling = Tiling(g, size)
        # V and M are written and read, in L2 where they fit.
        numbers = tiling.matrices * tiling.tiles * (c + n)
        near = block_rows(tiling, target) or FLOAT_BYTES * numbers <= target.l2_bytes
        moved = 0 if near else 2 * numbers
        vectors = sum(len(pieces(columns, lanes_of(target))) for columns in (c, n))
        transform = TRANSFORM_CYCLES * tiling.matrices * tiling.tiles * vectors
        each = product_cycles(tiling.tiles, n, c, target)
        cycles[size] = tiling.matrices * each + transform + stream_cycles(moved, target)
    return min(cycles, key=cycles.__getitem__)


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: ConvSpec = call.spec
    if call.exact:
        return "it errs more than a plain sum, and exact algorithms are asked for"
    if reason := conv_open.refuses(call) if _is_open(spec) else conv.refuses(spec):
        return reason
    plain = spec.w[2:] == (TAPS, TAPS) and spec.groups == 1 and not spec.transposed
    if not plain or {*spec.strides, *spec.dilation} != {1}:
        return "it is no 3x3 convolution with strides, dilation and groups of 1"
    return None


def _is_open(spec: ConvSpec) -> bool:
    return any(not isinstance(size, int) for size in spec.x[2:])


def _slower(call: GroupCall, target: Target) -> str | None:
    better = _best(call.spec, target)
    return "the direct loop nest takes less time" if better is None else None


def _best(spec: ConvSpec, target: Target) -> int | None:
    """The best size of tiles; where spatial sizes are open, of those with blocks that fit L2."""
    if not _is_open(spec):
        return best_size(Geometry(spec), target)
    g = Geometry(_closed(spec))
    return best_size(g, target, [n for n in POINTS if block_rows(Tiling(g, n), target)])


def _closed(spec: ConvSpec) -> ConvSpec:
    """One image of the size that open ones are taken for, with an output for each position."""
    return replace(spec, x=(1, spec.x[1], *OPEN_SIZE), padding=(1,) * 4)


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: ConvSpec = call.spec
    names, w = Names(call.name), call.get("w").array
    x, arrays = Given("x", channels_last=True), conv.operands(call)
    size = pick(call.name, "tile", POINTS, _best(spec, target) or max(POINTS))
    if _is_open(spec):
        step = most_rows(target, 2)
        default = block_rows(Tiling(Geometry(_closed(spec)), size), target) or step
        blocks = {max(1, rows // step) * step for rows in scaled(default, MOST * step)}
        rows = pick(call.name, "block_rows", sorted(blocks), default)
        tiling = OpenTiling(spec, call.result.shape, size)
        made = blocked(names.next(), x, w, tiling, rows, spec.epilogue, arrays, target)
        return Lowered((made,), channels_last=True)
    g = Geometry(spec)
    tiling = Tiling(g, size)
    steps, pools = conv.split(spec.epilogue)
    launches = winograd(names, x, w, tiling, steps, arrays, target)
    launches += conv.pooled(names, len(launches) - 1, g.y_last, pools, target)
    return Lowered(launches, channels_last=True)


WINOGRAD = Rule("winograd", ConvSpec, _refuses, _lower, _slower)
