"""3x3 convolutions by Winograd's algorithm, channels last: 2.25 to 4 times fewer multiplications.

    V[i, tile, :] = BT d B          the input, tile by tile, one matrix for each of edge^2 products
    M[i, tile, :] = V[i] @ U[i]     U = G w GT, transformed at compile time
    out           = AT M A          then the steps of the store

Outputs are cut into tiles of size x size; a tile reads edge x edge inputs, edge = size + 2, which
overlap those of its neighbours. x is read as it lies: what a tile reads beyond it is 0 and is left
out of the sums. Tiles at the bottom and the right may reach over the end of the result.

Source: Lavin and Gray 2016, arXiv:1509.09308. The error is larger than a plain sum's
(winograd_matrices.py, docs/verification.md), which is why the rule refuses exact compilations.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec, Step
from tilewright.targets.rules import conv
from tilewright.targets.rules.contraction import (
    Blocking,
    Product,
    Store,
    contractions,
    default_blocking,
)
from tilewright.targets.rules.epilogue import Epilogue, epilogue_operands
from tilewright.targets.rules.estimate import product_cycles, stream_cycles
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.packing import pack_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Rule
from tilewright.targets.rules.tir import Index, Kernel, index, loop
from tilewright.targets.rules.winograd_matrices import POINTS, TAPS, transformed_weights
from tilewright.targets.rules.winograd_tiles import Tiling, store_tile, transform_tile
from tilewright.targets.target import Target


def input_transform(name: str, x: Given | int, tiling: Tiling, target: Target) -> Launch:
    """V from x."""
    kernel = Kernel(name)
    values = kernel.param(tiling.g.x_last, "float32", "x")
    shape = (tiling.matrices, tiling.stride(tiling.g.channels))
    out = kernel.param(shape, "float32", "v")
    body = loop(
        tiling.tiles,
        lambda tile: transform_tile(tiling, values, out, tile, tile, shape[1], target),
        "tile",
        parallel=True,
    )
    return Launch(kernel.finish(body), (x,), shape, "float32")


def products(name: str, v: int, w: np.ndarray, tiling: Tiling, target: Target) -> Launch:
    """M from V and the weights, [n, c, 3, 3]."""
    n, depth = tiling.g.out_channels, tiling.g.channels
    lanes = lanes_of(target)
    shape = default_blocking(tiling.tiles, n, depth, target)
    wide = shape.vectors * lanes
    # One matrix is a piece: there are enough of them.
    blocking = Blocking(shape.rows, shape.vectors, -(-tiling.tiles // shape.rows), -(-n // wide))
    matrices = transformed_weights(w, tiling.transforms)
    packed = np.stack([pack_columns(u, wide, lanes) for u in matrices])
    kernel = Kernel(name)
    v_stride, m_stride = tiling.stride(depth), tiling.stride(n)
    values = kernel.param((tiling.matrices, v_stride), "float32", "v")
    weights = kernel.param(packed.shape, "float32", "u")
    out = kernel.param((tiling.matrices, m_stride), "float32", "m")

    def nest(i: tirx.Expr) -> tuple[Product, Store]:
        product = Product(
            m=tiling.tiles,
            n=n,
            a=values,
            row=lambda r: i * v_stride + r * depth,
            reduction=Reduction(1, depth),
            b=weights,
            b_base=i * packed.shape[1],
        )

        def store(row: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
            return out.store(i * m_stride + index(row) * n + column, value, width)

        return product, store

    body = contractions(tiling.matrices, nest, blocking, target)
    return Launch(kernel.finish(body), (v, packed), (tiling.matrices, m_stride), "float32")


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
    shape = (tiling.matrices, tiling.stride(g.out_channels))
    values = kernel.param(shape, "float32", "m")
    operands, inputs = epilogue_operands(kernel, arrays, g.out_channels, g.y_last, lanes_of(target))
    out = kernel.param(g.y_last, "float32", "y")
    epilogue = Epilogue(steps, operands)

    def one(tile: Index) -> Stmt:
        base, n = tile * g.out_channels, g.out_channels
        return store_tile(tiling, values, tile, base, shape[1], 0, n, out, epilogue, target)

    body = loop(tiling.tiles, one, "tile", parallel=True)
    return Launch(kernel.finish(body), (m, *inputs), g.y_last, "float32")


def winograd(
    names: Names,
    g: Geometry,
    x: Given | int,
    w: np.ndarray,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    size: int,
    target: Target,
) -> tuple[Launch, ...]:
    """The convolution as three launches, the first of a group."""
    tiling = Tiling(g, size)
    return (
        input_transform(names.next("input"), x, tiling, target),
        products(names.next("products"), 0, w, tiling, target),
        output_transform(names.next(), 1, tiling, steps, arrays, target),
    )


def best_size(g: Geometry, target: Target) -> int | None:
    """The tile size that takes the fewest cycles; None where the direct loop nest does."""
    (oh, ow), c, n = g.out, g.channels, g.out_channels
    direct = product_cycles(g.batch * oh * ow, n, TAPS * TAPS * c, target)
    cycles: dict[int | None, float] = {None: direct}
    for size in POINTS:
        tiling = Tiling(g, size)
        # V and M are written and read.
        moved = 2 * tiling.matrices * tiling.tiles * (c + n)
        each = product_cycles(tiling.tiles, n, c, target)
        cycles[size] = tiling.matrices * each + stream_cycles(moved, target)
    return min(cycles, key=cycles.__getitem__)


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: ConvSpec = call.spec
    if call.exact:
        return "it errs more than a plain sum, and exact algorithms are asked for"
    if reason := conv.refuses(spec):
        return reason
    plain = spec.w[2:] == (TAPS, TAPS) and spec.groups == 1
    if not plain or {*spec.strides, *spec.dilation} != {1}:
        return "it is no 3x3 convolution with strides, dilation and groups of 1"
    if best_size(Geometry(spec), target) is None:
        return "the direct loop nest takes less time"
    return None


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: ConvSpec = call.spec
    g, names = Geometry(spec), Names(call.name)
    steps, pools = conv.split(spec.epilogue)
    launches = winograd(
        names,
        g,
        Given("x", channels_last=True),
        call.get("w").array,
        steps,
        conv.operands(call),
        best_size(g, target),
        target,
    )
    launches += conv.pooled(names, len(launches) - 1, g, pools, target)
    return Lowered(launches, channels_last=True)


WINOGRAD = Rule("winograd", ConvSpec, _refuses, _lower)
