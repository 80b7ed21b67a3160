"""Matrix products of two values, or of a batch of matrices: w is packed when the model runs.

    out[b, m, n] = epilogue(sum over k of x[b, m, k] * w[b, k, n])

Packing reads and writes w once, which is little beside a product of many rows. Where there are few
(`few_rows`), or w is so small that its panels are in L1 anyway, w is read as it is. Weights that
are known are packed at compile time.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import GemmSpec
from tilewright.targets.rules.blocking import FLOAT_BYTES, default_blocking
from tilewright.targets.rules.contraction import Product, Store, contraction, contractions
from tilewright.targets.rules.epilogue import Epilogue, operands_of
from tilewright.targets.rules.few_rows import MOST_ROWS, few_rows
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Rule
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Index,
    Kernel,
    branch,
    copy,
    fill,
    index,
    loop,
    seq,
    worth_threads,
)
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target

# A w that takes no more than this share of L1 stays there, whichever way its rows lie.
PANELS_IN_L1 = 4


def _matrices(spec: GemmSpec) -> tuple[int, int]:
    """How many products there are, each with a matrix of w of its own, and the rows of each."""
    products, own = math.prod(spec.batch), math.prod(spec.w[:-2])
    return own, products // own * spec.m


def _pack(name: str, spec: GemmSpec, shape: tuple[int, ...], wide: int, lanes: int) -> Launch:
    """W [..., k, n] as `packing.pack_columns` has it, which is of `shape`."""
    (count, size), depth, n = shape, spec.k, spec.n
    full, rest = divmod(n, wide)
    panels, whole = full + bool(rest), -(-rest // lanes) * lanes
    kernel = Kernel(name)
    source = kernel.param(spec.w, "float32", "w")
    out = kernel.param(shape, "float32", "y")

    def panel(number: tirx.Expr) -> Stmt:
        matrix, p = tirx.floordiv(number, panels), tirx.floormod(number, panels)
        begin = matrix * size + p * (depth * wide)

        def rows(columns: int, stride: int) -> Stmt:
            def row(k: tirx.Expr) -> Stmt:
                at = begin + k * stride
                done = [copy(out, at, source, (matrix * depth + k) * n + p * wide, columns, lanes)]
                if stride > columns:
                    done.append(fill(out, at + columns, stride - columns, lanes))
                return seq(done)

            return loop(depth, row, "k")

        if not rest:
            return rows(wide, wide)
        return branch(p < full, rows(wide, wide), rows(rest, whole)) if full else rows(rest, whole)

    many = worth_threads(count * size, FEWEST_ELEMENTS)
    body = loop(count * panels, panel, "panel", parallel=many)
    return Launch(kernel.finish(body), (Given("w"),), shape, "float32")


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: GemmSpec = call.spec
    if spec.pooled:
        return "it pools"
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    if not all(isinstance(size, int) for size in (*spec.x, *spec.w)):
        return "its sizes are open"
    if 0 in (*spec.x, *spec.w):
        return "nothing to compute"
    rank = len(spec.batch)
    x, w = ((1,) * (rank + 2 - len(shape)) + shape[:-2] for shape in (spec.x, spec.w))
    if x != spec.batch or (w != spec.batch and math.prod(w) != 1):
        return f"the batches {spec.x[:-2]} and {spec.w[:-2]} are broadcast"
    return Epilogue.refuses(spec.epilogue, -1)


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: GemmSpec = call.spec
    (count, m), depth, n = _matrices(spec), spec.k, spec.n
    names, lanes, w = Names(call.name), lanes_of(target), call.get("w").array
    if w is None and m <= MOST_ROWS:
        return Lowered((_few_rows(call, target),))
    launches = []
    name = names.next("product")
    blocking = default_blocking(name, m, n, depth, target, runs=1)
    wide = blocking.vectors * lanes

    def columns() -> np.ndarray:
        return w.reshape(count, depth, n)

    packed = packed_columns((count, depth, n), wide, lanes, columns)
    source: Given | int | None = None
    if plain := w is None and depth * n * FLOAT_BYTES <= target.l1d_bytes // PANELS_IN_L1:
        source = Given("w")
    elif w is None:
        source = len(launches)
        launches.append(_pack(names.next("pack"), spec, packed.shape, wide, lanes))
    weights = spec.w if plain else packed
    operands = operands_of(spec.epilogue, call)
    k = WeightedKernel(name, spec.x, weights, call.result.shape, spec.epilogue, operands, lanes)

    def nest(i: tirx.Expr) -> tuple[Product, Store]:
        def store(row: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
            return k.store((i * m + index(row)) * n + column, column, width, value)

        product = Product(
            m=m,
            n=n,
            a=k.x,
            row=lambda r: (i * m + r) * depth,
            reduction=Reduction(1, depth),
            b=k.w,
            b_base=i * (depth * n if plain else packed.shape[1]),
            row_step=depth,
            b_row=n if plain else 0,
            begin=k.begin,
        )
        return product, store

    if count == 1:
        body = contraction(nest(index(0))[0], blocking, nest(index(0))[1], target)
    else:
        body = contractions(count, nest, blocking, target)
    launches.append(k.launch(body, Given("x"), source))
    return Lowered(tuple(launches))


def _few_rows(call: GroupCall, target: Target) -> Launch:
    """The kernel of a product whose rows are so few that its w is read along its own."""
    spec: GemmSpec = call.spec
    (count, m), n, lanes = _matrices(spec), spec.n, lanes_of(target)
    operands = operands_of(spec.epilogue, call)
    k = WeightedKernel(call.name, spec.x, spec.w, call.result.shape, spec.epilogue, operands, lanes)

    def store(number: tirx.Expr, row: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
        return k.store((number * m + row) * n + column, column, width, value)

    body = few_rows(k.x, k.w, (count, m, spec.k, n), k.begin, store, target)
    return k.launch(body, Given("x"), Given("w"))


MATMUL = Rule("matmul", GemmSpec, _refuses, _lower)
