"""Softmax and its logarithm along any axis.

    m = max(x);  e = exp(x - m);  y = e / sum(e)        or  y = x - m - log(sum(e))

Along the last axis a row is reduced in vectors; along another one, neighbours on the last axis
are vectors, each lane with a sum of its own. In the result's memory until the last pass: e.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import SoftmaxSpec
from tilewright.targets.rules import vector_math
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.row import each, reduce_into
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Rule
from tilewright.targets.rules.tir import Flat, Index, Kernel, index, local, loop, number, seq
from tilewright.targets.target import Target


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: SoftmaxSpec = call.spec
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    open_sizes = [size for size in spec.x[spec.axis :] if not isinstance(size, int)]
    if open_sizes or 0 in spec.x:
        return f"the sizes {spec.x} are open, or one of them is 0"
    return None


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: SoftmaxSpec = call.spec
    lanes = lanes_of(target)
    kernel = Kernel(call.name)
    x = kernel.param(spec.x, "float32", "x")
    y = kernel.param(spec.x, "float32", "y")
    count: Index = 1
    for size in spec.x[: spec.axis]:
        count = count * kernel.size(size)
    length, inner = spec.x[spec.axis], math.prod(spec.x[spec.axis + 1 :])

    def row(r: tirx.Expr) -> Stmt:
        begin = index(r) * (length * inner)
        if inner == 1:
            return _row(x, y, begin, length, lanes, spec.log)
        return each(inner, lanes, lambda at, n: _columns(x, y, begin + at, inner, length, n, spec))

    body = loop(count, row, "row", parallel=True)
    return Lowered((Launch(kernel.finish(body), (Given("x"),), spec.x, "float32"),))


def _row(x: Flat, y: Flat, begin: Index, length: int, lanes: int, log: bool) -> Stmt:
    """One row of values side by side."""
    state, made = local(2, "float32", "state")

    def less_top(at: Index, n: int) -> tirx.Expr:
        return x.load(begin + at, n) - state.splat(0, n)

    def power(at: Index, n: int) -> Stmt:
        return y.store(begin + at, vector_math.exp_nonpositive(less_top(at, n)), n)

    def finish(at: Index, n: int) -> Stmt:
        other = state.splat(1, n)
        value = less_top(at, n) - other if log else y.load(begin + at, n) * other
        return y.store(begin + at, value, n)

    def reduce(place: int, values: Flat, combine: Callable, neutral: float) -> Stmt:
        start = state.store(place, number(neutral, "float32"))
        steps = reduce_into(
            state,
            place,
            length,
            lanes,
            lambda at, n: values.load(begin + at, n),
            combine,
            neutral,
        )
        return seq([start, steps])

    return seq(
        [
            made,
            reduce(0, x, tirx.max, -math.inf),
            each(length, lanes, power),
            reduce(1, y, operator.add, 0.0),
            state.store(1, _last_operand(state.load(1), 1, log)),
            each(length, lanes, finish),
        ]
    )


def _columns(
    x: Flat, y: Flat, begin: Index, stride: int, length: int, n: int, spec: SoftmaxSpec
) -> Stmt:
    """`n` columns side by side, `stride` apart from one element to the next.

    Each lane adds its numbers one after the other, in float64: in float32 a thousand of them would
    err by more than the rest of the kernel does. Each row of `_row` is many sums.
    """
    state, made = local(2 * n, "float32", "state")
    sums, sums_made = local(n, "float64", "sums")
    top, last = state.load(0, n), state.load(n, n)

    def at(i: tirx.Expr) -> Index:
        return begin + i * stride

    def power(i: tirx.Expr) -> Stmt:
        value = vector_math.exp_nonpositive(x.load(at(i), n) - top)
        e = tirx.Var("e", value.ty)
        wide = e.astype("float64" if n == 1 else f"float64x{n}")
        added = sums.store(0, sums.load(0, n) + wide, n)
        return seq([tirx.Bind(e, value), y.store(at(i), e, n), added])

    def finish(i: tirx.Expr) -> Stmt:
        value = x.load(at(i), n) - top - last if spec.log else y.load(at(i), n) * last
        return y.store(at(i), value, n)

    total = sums.load(0, n).astype("float32" if n == 1 else f"float32x{n}")
    return seq(
        [
            made,
            sums_made,
            state.store(0, number(-math.inf, "float32", n), n),
            sums.store(0, number(0.0, "float64", n), n),
            loop(length, lambda i: state.store(0, tirx.max(x.load(at(i), n), top), n), "i"),
            loop(length, power, "i"),
            state.store(n, _last_operand(total, n, spec.log), n),
            loop(length, finish, "i"),
        ]
    )


def _last_operand(total: tirx.Expr, n: int, log: bool) -> tirx.Expr:
    """What the last pass subtracts, or multiplies by."""
    return vector_math.log(total) if log else number(1.0, "float32", n) / total


SOFTMAX = Rule("softmax", SoftmaxSpec, _refuses, _lower)
