"""Groups of several convolutions: chains, parallel ones with their concat.

conv_chain           the first convolution; the second
conv_concat          every convolution; a copy of all parts, side by side
"""

from __future__ import annotations

import math

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConcatSpec, ConvChainSpec, ConvSpec
from tilewright.ops.spec import Shape
from tilewright.targets.rules import conv
from tilewright.targets.rules.epilogue import operands_of
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Rule, last
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Flat,
    Kernel,
    copy,
    loop,
    seq,
    worth_threads,
)
from tilewright.targets.target import Target

# Chains


def _refuses_chain(call: GroupCall, target: Target) -> str | None:
    spec: ConvChainSpec = call.spec
    return conv.refuses(spec.first) or conv.refuses(spec.second)


def _lower_chain(call: GroupCall, target: Target) -> Lowered:
    spec: ConvChainSpec = call.spec
    names = Names(call.name)
    x = Given("x", channels_last=True)
    arrays = operands_of(spec.first.epilogue, call, residuals=(), prefix="first_")
    first = conv.convolution(
        names, spec.first, x, call.get("first_w").array, arrays, target, what="first"
    )
    arrays = conv.channels_last(operands_of(spec.second.epilogue, call))
    second = conv.convolution(
        names, spec.second, len(first) - 1, call.get("w").array, arrays, target, first=len(first)
    )
    return Lowered((*first, *second), channels_last=True)


# Parallel convolutions


def _refuses_concat(call: GroupCall, target: Target) -> str | None:
    spec: ConcatSpec = call.spec
    for part in spec.parts:
        if isinstance(part, ConvSpec) and (reason := conv.refuses(part)):
            return reason
        if isinstance(part, tuple) and not all(isinstance(size, int) for size in part[1:]):
            return f"the sizes {part} of a part are open"
    return None if spec.dtype == "float32" else f"dtype {spec.dtype}"


def _lower_concat(call: GroupCall, target: Target) -> Lowered:
    spec: ConcatSpec = call.spec
    names = Names(call.name)
    launches: list[Launch] = []
    parts: list[tuple[Given | int, int]] = []
    for n, part in enumerate(spec.parts):
        if isinstance(part, tuple):
            parts.append((Given(f"{n}_value", channels_last=True), part[1]))
            continue
        arrays = operands_of(part.epilogue, call, residuals=(), prefix=f"{n}_")
        x = Given(f"{n}_x", channels_last=True)
        w = call.get(f"{n}_w").array
        launches += conv.convolution(names, part, x, w, arrays, target, first=len(launches))
        parts.append((len(launches) - 1, part.w[0]))
    shape = last(call.result.shape)
    launches.append(_joined(names.next("concat"), parts, shape, target))
    return Lowered(tuple(launches), channels_last=True)


def _joined(
    name: str, parts: list[tuple[Given | int, int]], shape: Shape, target: Target
) -> Launch:
    """Values [n, *positions, c_i] side by side in [n, *positions, sum of c_i]."""
    kernel = Kernel(name)
    flats: list[tuple[Flat, int]] = [
        (kernel.param((*shape[:-1], width), "float32", f"x{n}"), width)
        for n, (_, width) in enumerate(parts)
    ]
    out = kernel.param(shape, "float32", "y")
    lanes = lanes_of(target)

    def position(p: tirx.Expr) -> Stmt:
        steps, at = [], 0
        for flat, width in flats:
            steps.append(copy(out, p * shape[-1] + at, flat, p * width, width, lanes))
            at += width
        return seq(steps)

    positions = kernel.size(shape[0]) * math.prod(shape[1:-1])
    many = worth_threads(positions * shape[-1], FEWEST_ELEMENTS)
    body = loop(positions, position, "position", parallel=many)
    return Launch(kernel.finish(body), tuple(source for source, _ in parts), shape, "float32")


CHAIN = Rule("conv_chain", ConvChainSpec, _refuses_chain, _lower_chain)
CONCAT = Rule("conv_concat", ConcatSpec, _refuses_concat, _lower_concat)
