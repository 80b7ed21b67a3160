"""Groups of several convolutions: squeeze-and-excitation, chains, parallel ones with their concat.

squeeze_excitation   mean; two small products; x times the gate; projection
conv_chain           the first convolution; the second
conv_concat          every convolution; a copy of all parts, side by side
"""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConcatSpec, ConvChainSpec, ConvSpec, SqueezeExcitationSpec, Step
from tilewright.ops.spec import Shape
from tilewright.targets.rules import conv, pool
from tilewright.targets.rules.epilogue import Epilogue, operands_of
from tilewright.targets.rules.gemm import linear
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Rule, last
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Flat,
    Index,
    Kernel,
    copy,
    loop,
    pieces,
    seq,
    worth_threads,
)
from tilewright.targets.target import Target


def channels_last(arrays: tuple[np.ndarray | Given | int, ...]) -> tuple:
    """The operands of a convolution's steps: residuals have their channels last."""
    return tuple(
        Given(array.role, channels_last=True) if isinstance(array, Given) else array
        for array in arrays
    )


# Squeeze-and-excitation


def _refuses_excitation(call: GroupCall, target: Target) -> str | None:
    spec: SqueezeExcitationSpec = call.spec
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    if not all(isinstance(size, int) for size in spec.x):
        return "its sizes are open"
    if any(call.get(role).array is None for role in ("w1", "w2")):
        return "the weights are computed at run time"
    if reason := Epilogue.refuses((spec.activation, spec.gate), None):
        return reason
    if spec.projection is None:
        return None
    added = [step for step in spec.projection.epilogue if step.name == "residual"]
    if len(added) > sum(role in call.roles for role in ("residual", "late_residual")):
        return "what is added is the scaled value"
    return conv.refuses(spec.projection)


def _lower_excitation(call: GroupCall, target: Target) -> Lowered:
    spec: SqueezeExcitationSpec = call.spec
    names = Names(call.name)
    batch, channels = spec.x[:2]
    launches = [pool.mean_launch(names.next("mean"), spec.x, target)]
    sizes = ((batch, channels), (batch, spec.squeezed))
    for n, (step, shape) in enumerate(zip((spec.activation, spec.gate), sizes, strict=True), 1):
        steps = ((Step("bias"),) if spec.biases[n - 1] else ()) + (step,)
        arrays = (call.get(f"b{n}").array,) if spec.biases[n - 1] else ()
        w = _matrix(call.get(f"w{n}").array, shape[1])
        launches.append(linear(names.next(f"fc{n}"), n - 1, shape, w, steps, arrays, target))
    x = Given("x", channels_last=True)
    launches.append(_scaled(names.next("scale"), x, 2, spec.x, target))
    if spec.projection is not None:
        arrays = operands_of(spec.projection.epilogue, call)
        w = call.get("w").array
        launches += conv.convolution(
            names, spec.projection, 3, w, channels_last(arrays), target, first=len(launches)
        )
    return Lowered(tuple(launches), channels_last=True)


def _matrix(w: np.ndarray, inputs: int) -> np.ndarray:
    """Weights of a 1x1 convolution [out, in, 1, 1], or of a product [in, out], as [in, out]."""
    return w if w.ndim == 2 else w.reshape(-1, inputs).T


def _scaled(name: str, x: Given | int, gate: int, shape: Shape, target: Target) -> Launch:
    """X [n, *positions, c] times a gate [n, c]."""
    kernel = Kernel(name)
    batch, channels, positions = shape[0], shape[1], math.prod(shape[2:])
    values = kernel.param(last(shape), "float32", "x")
    gates = kernel.param((batch, channels), "float32", "gate")
    out = kernel.param(last(shape), "float32", "y")
    lanes = lanes_of(target)
    full, rest = divmod(channels, lanes)

    def position(p: tirx.Expr) -> Stmt:
        row, image = p * channels, tirx.floordiv(p, positions) * channels

        def span(at: Index, n: int) -> Stmt:
            return out.store(row + at, values.load(row + at, n) * gates.load(image + at, n), n)

        steps = [loop(full, lambda i: span(i * lanes, lanes), "i")] if full else []
        return seq([*steps, *(span(full * lanes + at, n) for at, n in pieces(rest, lanes))])

    many = worth_threads(batch * positions * channels, FEWEST_ELEMENTS)
    body = loop(batch * positions, position, "position", parallel=many)
    return Launch(kernel.finish(body), (x, gate), last(shape), "float32")


# Chains


def _refuses_chain(call: GroupCall, target: Target) -> str | None:
    spec: ConvChainSpec = call.spec
    return conv.refuses(spec.first) or conv.refuses(spec.second)


def _lower_chain(call: GroupCall, target: Target) -> Lowered:
    spec: ConvChainSpec = call.spec
    names = Names(call.name)
    x = Given("x", channels_last=True)
    arrays = operands_of(spec.first.epilogue, call, residuals=(), prefix="first_")
    first = conv.convolution(names, spec.first, x, call.get("first_w").array, arrays, target)
    arrays = channels_last(operands_of(spec.second.epilogue, call))
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
        if isinstance(part, tuple) and not all(isinstance(size, int) for size in part):
            return "its sizes are open"
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

    many = worth_threads(math.prod(shape), FEWEST_ELEMENTS)
    body = loop(math.prod(shape[:-1]), position, "position", parallel=many)
    return Launch(kernel.finish(body), tuple(source for source, _ in parts), shape, "float32")


EXCITATION = Rule(
    "squeeze_excitation", SqueezeExcitationSpec, _refuses_excitation, _lower_excitation
)
CHAIN = Rule("conv_chain", ConvChainSpec, _refuses_chain, _lower_chain)
CONCAT = Rule("conv_concat", ConcatSpec, _refuses_concat, _lower_concat)
