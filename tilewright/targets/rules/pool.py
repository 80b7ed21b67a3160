"""Means over all positions, channels last."""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx

from tilewright.errors import NO_POSITIONS
from tilewright.ops import Step
from tilewright.ops.spec import Shape
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.rule import Given, Launch, last
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Flat,
    Index,
    Kernel,
    Stmt,
    branch,
    demand,
    index,
    local,
    loop,
    number,
    pieces,
    seq,
    worth_threads,
)
from tilewright.targets.target import Target

# Vectors of channels that one pass over the positions keeps in registers.
VECTORS = 4


def mean_launch(name: str, x: Shape, target: Target, source: Given | int | None = None) -> Launch:
    """X [n, *positions, c], channels last, to its mean [n, c]; `x` has channels second."""
    kernel = Kernel(name)
    values = kernel.param(last(x), "float32", "x")
    images, channels = kernel.size(x[0]), x[1]
    sizes = [kernel.size(size) for size in x[2:]]
    lines, columns = math.prod(sizes[:-1]), sizes[-1]
    positions = lines * columns
    out = kernel.param(x[:2], "float32", "y")
    lanes = lanes_of(target)
    wide = VECTORS * lanes
    full, rest = divmod(channels, wide)
    spans = full + bool(rest)

    def piece(p: tirx.Expr) -> Stmt:
        image, place = tirx.floordiv(p, spans), tirx.floormod(p, spans)
        if not rest:
            return span(image, place * wide, wide)
        tail = span(image, index(full * wide), rest)
        return branch(place < full, span(image, place * wide, wide), tail) if full else tail

    def span(image: tirx.Expr, start: tirx.Expr, width: int) -> Stmt:
        total, made = local(width, "float32", "total")
        acc, made_too = local(width, "float32", "acc")
        parts = pieces(width, lanes)
        begin = image * (positions * channels) + start

        def clear(sums: Flat) -> list[Stmt]:
            return [sums.store(at, number(0.0, "float32", n), n) for at, n in parts]

        def add(sums: Flat, more: Callable[[int, int], tirx.Expr]) -> list[Stmt]:
            return [sums.store(at, sums.load(at, n) + more(at, n), n) for at, n in parts]

        def line(number_of: tirx.Expr) -> Stmt:
            def position(p: tirx.Expr) -> Stmt:
                row = begin + (number_of * columns + p) * channels
                return seq(add(acc, lambda at, n: values.load(row + at, n)))

            # Rounding errors grow with how many numbers are added to one.
            return seq([*clear(acc), loop(columns, position, "p"), *add(total, acc.load)])

        steps = [made, made_too, *clear(total), loop(lines, line, "line")]
        place = image * channels + start
        for at, n in parts:
            steps.append(out.store(place + at, total.load(at, n) * share(n), n))
        return seq(steps)

    def share(n: int) -> tirx.Expr:
        if isinstance(positions, int):
            return number(1.0 / positions, "float32", n)
        one = number(1.0, "float32") / tirx.Cast("float32", positions)
        return one if n == 1 else tirx.Broadcast(one, n)

    many = worth_threads(images * positions * channels, FEWEST_ELEMENTS)
    body = loop(images * spans, piece, "span", parallel=many)
    if not isinstance(positions, int):
        # Smaller than a window of a pool before: ONNX Runtime has one number there, ONNX none.
        body = seq([demand(positions >= 1, NO_POSITIONS), body])
    given = source if source is not None else Given("x", channels_last=True)
    return Launch(kernel.finish(body), (given,), x[:2], "float32")


def max_launch(name: str, x: Given | int, shape: Shape, step: Step, target: Target) -> Launch:
    """The max pool `step` of x [n, h, w, c], channels last.

    A NaN is never the maximum; in ONNX Runtime that depends on its place in the window.
    """
    kh, kw, sh, sw, top, left, bottom, right, dh, dw, ceil = map(int, step.parameters)
    batch, height, width, channels = shape
    oh = _pooled(height, kh, sh, top, bottom, dh, bool(ceil))
    ow = _pooled(width, kw, sw, left, right, dw, bool(ceil))
    kernel = Kernel(name)
    values = kernel.param(shape, "float32", "x")
    out = kernel.param((batch, oh, ow, channels), "float32", "y")
    lanes = lanes_of(target)

    def position(p: tirx.Expr) -> Stmt:
        image, at = tirx.floordiv(p, oh * ow), tirx.floormod(p, oh * ow)
        h = tirx.floordiv(at, ow) * sh - top
        w = tirx.floormod(at, ow) * sw - left

        def span(start: Index, n: int) -> Stmt:
            acc, made = local(n, "float32", "acc")

            def look(i: tirx.Expr, j: tirx.Expr) -> Stmt:
                y, x = h + i * dh, w + j * dw
                place = ((image * height + y) * width + x) * channels + start
                here, best = values.load(place, n), acc.load(0, n)
                keep = acc.store(0, tirx.max(here, best), n)
                if not any((top, left, bottom, right, ceil)):
                    return keep
                return branch(tirx.all(y >= 0, y < height, x >= 0, x < width), keep)

            return seq(
                [
                    made,
                    acc.store(0, number(float("-inf"), "float32", n), n),
                    loop(kh, lambda i: loop(kw, lambda j: look(i, j), "j"), "i"),
                    out.store(p * channels + start, acc.load(0, n), n),
                ]
            )

        full, rest = divmod(channels, lanes)
        steps = [loop(full, lambda i: span(i * lanes, lanes), "span")] if full else []
        return seq([*steps, *(span(full * lanes + at, n) for at, n in pieces(rest, lanes))])

    positions = kernel.size(batch) * oh * ow
    many = worth_threads(positions * channels, FEWEST_ELEMENTS)
    body = loop(positions, position, "position", parallel=many)
    return Launch(kernel.finish(body), (x,), (batch, oh, ow, channels), "float32")


def _pooled(
    size: int, kernel: int, stride: int, begin: int, end: int, dilation: int, ceil: bool
) -> int:
    """Length of a pooled axis, as ONNX's MaxPool has it."""
    span = size + begin + end - dilation * (kernel - 1) - 1
    if not ceil:
        return span // stride + 1
    length = -(-span // stride) + 1
    # A window that would start beyond the padded input is left out.
    return length - (stride * (length - 1) >= size + begin)
