"""Normalisations over values that lie side by side: layer, RMS, group and instance norm.

    parallel for row in rows:
        x = left + right                        where the input is a sum, kept in the result's row
        mean = sum(x) / n;  variance = sum((x - mean)^2) / n
        y = (x - mean) * (weight / sqrt(variance + epsilon)) + bias

A row is what one mean is taken over: the last axes, or some channels with all their positions.
The variance is that of centred values: sum(x^2) / n - mean^2 would lose what large means hide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import NormSpec
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Rule
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    Kernel,
    index,
    local,
    loop,
    number,
    pieces,
    seq,
)
from tilewright.targets.target import Target

# Chains of a sum that run side by side, so that no addition waits for the one before.
CHAINS = 4


@dataclass(frozen=True)
class _Rows:
    """The rows of a tensor: how many, and `parts` of `length` elements in each.

    Weights have one value an element of a part (`along`), or one a part: part p of row r has
    number (r * parts + p) % channels.
    """

    count: Index
    parts: int
    length: int
    along: bool
    channels: int


def _rows(spec: NormSpec, kernel: Kernel) -> _Rows:
    if spec.method in ("layer", "rms"):
        lead = spec.x[: spec.axes[0]]
        count: Index = 1
        for size in lead:
            count = count * kernel.size(size)
        return _Rows(count, 1, _weights(spec), True, _weights(spec))
    batch, channels = spec.x[:2]
    groups = spec.groups if spec.method == "group" else channels
    parts = channels // groups
    return _Rows(batch * groups, parts, math.prod(spec.x[2:]), False, channels)


def _weights(spec: NormSpec) -> int:
    """How many values a weight has."""
    last = spec.method in ("layer", "rms")
    return math.prod(spec.x[spec.axes[0] :]) if last else spec.x[1]


def _factors(call: GroupCall) -> list[tuple[str, str]]:
    """What follows the division, in order: ("scale" or "bias", role of its array)."""
    spec: NormSpec = call.spec
    native = "gamma" in call.roles
    own = {"scale": (spec.weight, "gamma"), "bias": (spec.bias, "beta")}
    if not native:
        own = {"scale": (spec.weight, "weight"), "bias": (spec.bias, "bias")}
    found = [(name, role) for name, (there, role) in own.items() if there]
    late = {"scale": "weight", "bias": "bias"}
    return [*found, *((step.name, late[step.name]) for step in spec.epilogue)]


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: NormSpec = call.spec
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    rank = len(spec.x)
    if spec.method in ("layer", "rms"):
        if spec.axes != tuple(range(rank - len(spec.axes), rank)):
            return f"the mean is over axes {spec.axes}"
        sizes = spec.x[spec.axes[0] :]
    elif spec.method in ("group", "instance"):
        if spec.method == "instance" and spec.axes != tuple(range(2, rank)):
            return f"the mean is over axes {spec.axes}"
        sizes = spec.x
    else:
        return f"method {spec.method}"
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return f"the sizes {sizes} are open, or one of them is 0"
    if any(step.name not in ("scale", "bias") for step in spec.epilogue):
        return f"the steps {spec.epilogue} are not done in a store"
    for _, role in _factors(call):
        size = math.prod(call.get(role).shape)
        if size not in (1, _weights(spec)):
            return f"the {role} has shape {call.get(role).shape}"
    return None


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: NormSpec = call.spec
    lanes = lanes_of(target)
    kernel = Kernel(call.name)
    roles = ("left", "right") if spec.skip else ("x",)
    sources = [kernel.param(spec.x, "float32", role) for role in roles]
    factors = _factors(call)
    operands = [
        _Factor(name, kernel.param(call.get(role).shape, "float32", role), call.get(role).shape)
        for name, role in factors
    ]
    y = kernel.param(call.result.shape, "float32", "y")
    rows = _rows(spec, kernel)
    body = loop(
        rows.count, lambda r: _row(spec, rows, r, sources, operands, y, lanes), "row", parallel=True
    )
    inputs = tuple(Given(role) for role in (*roles, *(role for _, role in factors)))
    return Lowered((Launch(kernel.finish(body), inputs, call.result.shape, "float32"),))


@dataclass(frozen=True)
class _Factor:
    """An array that multiplies ("scale") or is added ("bias")."""

    name: str
    flat: Flat
    shape: tuple

    def load(self, at: Index, lanes: int, along: bool) -> tirx.Expr:
        """Its values for `lanes` elements: from `at` on, or the one at `at`."""
        if math.prod(self.shape) == 1:
            return self.flat.splat(0, lanes)
        return self.flat.load(at, lanes) if along else self.flat.splat(at, lanes)


def _row(
    spec: NormSpec,
    rows: _Rows,
    row: tirx.Expr,
    sources: list[Flat],
    operands: list[_Factor],
    y: Flat,
    lanes: int,
) -> Stmt:
    size = rows.parts * rows.length
    begin = row * size
    x = sources[0]
    # mean, then what multiplies the centred values
    state, made = local(2, "float32", "state")
    steps = [made, state.store(0, number(0.0, "float32"))]
    if spec.skip:
        left, right = sources
        x = y

        def add(at: Index, n: int) -> Stmt:
            return y.store(begin + at, left.load(begin + at, n) + right.load(begin + at, n), n)

        steps.append(_each(size, lanes, add))

    def centred(at: Index, n: int) -> tirx.Expr:
        return x.load(begin + at, n) - state.splat(0, n)

    if spec.method != "rms":
        total = _sum(rows, lanes, lambda at, n: x.load(begin + at, n), state, 0)
        steps += [total, state.store(0, state.load(0) * number(1 / size, "float32"))]

    def square(at: Index, n: int) -> tirx.Expr:
        value = x.load(begin + at, n) if spec.method == "rms" else centred(at, n)
        var = tirx.Var("v", value.ty)
        return tirx.Let(var, value, var * var)

    steps.append(state.store(1, number(0.0, "float32")))
    steps.append(_sum(rows, lanes, square, state, 1))
    deviation = tirx.sqrt(
        state.load(1) * number(1 / size, "float32") + number(spec.epsilon, "float32")
    )
    steps.append(state.store(1, number(1.0, "float32") / deviation))

    def part(p: Index) -> Stmt:
        channel = tirx.floormod(index(row) * rows.parts + p, rows.channels)

        def store(at: Index, n: int) -> Stmt:
            place = index(p) * rows.length + at
            value = x.load(begin + place, n) if spec.method == "rms" else centred(place, n)
            value = value * state.splat(1, n)
            for operand in operands:
                other = operand.load(at if rows.along else channel, n, rows.along)
                value = value * other if operand.name == "scale" else value + other
            return y.store(begin + place, value, n)

        return _each(rows.length, lanes, store)

    steps.append(loop(rows.parts, part, "part"))
    return seq(steps)


def _each(length: int, lanes: int, body: Callable[[Index, int], Stmt]) -> Stmt:
    """`body(at, lanes)` for vectors that cover `length` elements."""
    full, rest = divmod(length, lanes)
    steps = [loop(full, lambda i: body(index(i) * lanes, lanes), "i")] if full else []
    return seq([*steps, *(body(full * lanes + at, n) for at, n in pieces(rest, lanes))])


def _sum(
    rows: _Rows, lanes: int, term: Callable[[Index, int], tirx.Expr], into: Flat, place: int
) -> Stmt:
    """into[place] += the sum of all terms of a row, part by part."""
    full, rest = divmod(rows.length, lanes)
    groups, single = divmod(full, CHAINS)

    def part(p: Index) -> Stmt:
        first = index(p) * rows.length
        acc, made = local(CHAINS * lanes, "float32", "acc")
        zero = number(0.0, "float32", lanes)
        steps = [made, *(acc.store(c * lanes, zero, lanes) for c in range(CHAINS))]

        def add(c: int, at: Index, n: int) -> Stmt:
            return acc.store(c * lanes, acc.load(c * lanes, n) + term(first + at, n), n)

        if groups:
            steps.append(
                loop(
                    groups,
                    lambda g: seq(
                        add(c, (index(g) * CHAINS + c) * lanes, lanes) for c in range(CHAINS)
                    ),
                    "group",
                )
            )
        steps += [add(c, (groups * CHAINS + c) * lanes, lanes) for c in range(single)]
        steps += [add(0, full * lanes + at, n) for at, n in pieces(rest, lanes)]
        chains = [acc.load(c * lanes, lanes) for c in range(CHAINS)]
        while len(chains) > 1:
            chains = [a + b for a, b in zip(chains[::2], chains[1::2], strict=True)]
        # In a place of its own: what is read in vectors of several lengths stays in no register.
        folded, made = local(lanes, "float32", "folded")
        steps += [made, folded.store(0, chains[0], lanes)]
        width = lanes
        while width > 1:
            width //= 2
            halves = folded.load(0, width) + folded.load(width, width)
            steps.append(folded.store(0, halves, width))
        return seq([*steps, into.store(place, into.load(place) + folded.load(0))])

    return loop(rows.parts, part, "part")


NORM = Rule("norm", NormSpec, _refuses, _lower)
