"""Squeeze-and-excitation with the convolutions around it: an inverted residual block.

    x', lines = depthwise(expansion(x))      each line's mean from registers, while it is stored
    gate = act2(w2 act1(w1 mean(lines) + b1) + b2)
    out = projection(x', w * gate)           the weights are scaled where they are fewer than x'

The tensor is written once and read once: neither the mean nor the gate is a pass over it, unless
there are fewer positions than the projection has channels, or several images share the weights.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec, SqueezeExcitationSpec, Step
from tilewright.ops.spec import Shape
from tilewright.targets.rules import conv, depthwise, pool
from tilewright.targets.rules.epilogue import Epilogue, operands_of
from tilewright.targets.rules.gemm import linear
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.rule import (
    Given,
    GroupCall,
    Launch,
    Lowered,
    Names,
    Packed,
    Rule,
    last,
)
from tilewright.targets.rules.tir import (
    FEWEST_ELEMENTS,
    Index,
    Kernel,
    index,
    loop,
    pieces,
    seq,
    worth_threads,
)
from tilewright.targets.target import Target

# The names that the fusion gives to what makes x: the last one, and the one before it.
_DEPTHWISE, _EXPANSION = "depthwise_", "expansion_"


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: SqueezeExcitationSpec = call.spec
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    if not isinstance(spec.x[1], int):
        return "its channels are open"
    if any(call.get(role).array is None for role in ("w1", "w2")):
        return "the weights are computed at run time"
    if reason := Epilogue.refuses((spec.activation, spec.gate), None):
        return reason
    for part in spec.before:
        if reason := conv.refuses(part):
            return reason
    if spec.projection is None:
        return None
    return conv.refuses(spec.projection)


def _lower(call: GroupCall, target: Target) -> Lowered:
    block = _Block(call, target)
    x, means = block.made()
    gate = block.gate(means)
    if call.spec.projection is None:
        block.add(_scaled(block.names.next("scale"), x, gate, call.spec.x, target))
    else:
        block.project(x, gate)
    return Lowered(tuple(block.launches), channels_last=True)


class _Block:
    """The launches of one group, in order."""

    def __init__(self, call: GroupCall, target: Target) -> None:
        self._call, self._spec, self._target = call, call.spec, target
        self.names = Names(call.name)
        self.launches: list[Launch] = []

    def add(self, *launches: Launch) -> int:
        """Append launches; the number of the last one's first result."""
        self.launches += launches
        return self._results() - 1 - len(self.launches[-1].also)

    def _results(self) -> int:
        return sum(1 + len(launch.also) for launch in self.launches)

    def made(self) -> tuple[Given | int, int]:
        """What is scaled, and its means over all positions."""
        spec, target = self._spec, self._target
        x: Given | int = Given("x", channels_last=True)
        if not spec.before:
            return x, self.add(pool.mean_launch(self.names.next("mean"), spec.x, target, x))
        *expansion, filters = spec.before
        for part in expansion:
            x = self._convolution(part, x, _EXPANSION)
        g = Geometry(filters)
        if g.out_channels != g.channels:
            x = self._convolution(filters, x, _DEPTHWISE)
            return x, self.add(pool.mean_launch(self.names.next("mean"), spec.x, target, x))
        arrays = operands_of(filters.epilogue, self._call, residuals=(), prefix=_DEPTHWISE)
        w = self._call.get(f"{_DEPTHWISE}w").array
        name = self.names.next("depthwise")
        x = self.add(depthwise.launch(name, x, g, w, filters.epilogue, arrays, target, means=True))
        lines = (g.batch, g.channels, g.out[0])
        return x, self.add(pool.mean_launch(self.names.next("mean"), lines, target, x + 1))

    def _convolution(self, part: ConvSpec, x: Given | int, prefix: str) -> int:
        arrays = operands_of(part.epilogue, self._call, residuals=(), prefix=prefix)
        w, first = self._call.get(f"{prefix}w").array, self._results()
        what = prefix.rstrip("_")
        launches = conv.convolution(self.names, part, x, w, arrays, self._target, first, what)
        return self.add(*launches)

    def gate(self, means: int) -> int:
        """The factor of each channel, [n, c]."""
        spec, call = self._spec, self._call
        batch, channels = spec.x[:2]
        made, inputs = means, channels
        for n, step in enumerate((spec.activation, spec.gate), 1):
            steps = ((Step("bias"),) if spec.biases[n - 1] else ()) + (step,)
            arrays = (call.get(f"b{n}").array,) if spec.biases[n - 1] else ()
            w = _matrix(call.get(f"w{n}").array, inputs)
            name = self.names.next("layer")
            made = self.add(linear(name, made, (batch, inputs), w, steps, arrays, self._target))
            inputs = w.shape[1]
        return made

    def project(self, x: Given | int, gate: int) -> None:
        """The convolution of x times the gate."""
        spec: ConvSpec = self._spec.projection
        call, target, g = self._call, self._target, Geometry(spec)
        w = call.get("w").array
        arrays = conv.channels_last(operands_of(spec.epilogue, call))
        one_image = spec.pointwise and g.batch == 1 and not g.pads
        if not one_image or g.positions < g.out_channels:
            scaled = self.add(_scaled(self.names.next("scale"), x, gate, self._spec.x, target))
            first = self._results()
            self.add(*conv.convolution(self.names, spec, scaled, w, arrays, target, first))
            return

        def weights(packed: Packed, wide: int) -> int:
            name = self.names.next("weights")
            return self.add(_scaled_rows(name, packed, wide, gate, g, target))

        steps, pools = conv.split(spec.epilogue)
        name = self.names.next("projection")
        y = self.add(conv.product(name, x, g, w, steps, arrays, target, weights))
        self.add(*conv.pooled(self.names, y, g.y_last, pools, target))


def _matrix(w: np.ndarray, inputs: int) -> np.ndarray:
    """Weights of a 1x1 convolution [out, in, 1, 1], or of a product [in, out], as [in, out]."""
    return w if w.ndim == 2 else w.reshape(-1, inputs).T


def _scaled(name: str, x: Given | int, gate: int, shape: Shape, target: Target) -> Launch:
    """X [n, *positions, c] times a gate [n, c]."""
    kernel = Kernel(name)
    images, channels = kernel.size(shape[0]), shape[1]
    *sizes, columns = map(kernel.size, shape[2:] if len(shape) > 3 else (*shape[2:], 1))
    lines = math.prod(sizes)
    values = kernel.param(last(shape), "float32", "x")
    gates = kernel.param(shape[:2], "float32", "gate")
    out = kernel.param(last(shape), "float32", "y")
    lanes = lanes_of(target)
    full, rest = divmod(channels, lanes)

    def line(number: tirx.Expr) -> Stmt:
        image = tirx.floordiv(number, lines) * channels

        def position(p: tirx.Expr) -> Stmt:
            row = (number * columns + p) * channels

            def span(at: Index, n: int) -> Stmt:
                return out.store(row + at, values.load(row + at, n) * gates.load(image + at, n), n)

            steps = [loop(full, lambda i: span(i * lanes, lanes), "i")] if full else []
            return seq([*steps, *(span(full * lanes + at, n) for at, n in pieces(rest, lanes))])

        return loop(columns, position, "position")

    many = worth_threads(images * lines * columns * channels, FEWEST_ELEMENTS)
    body = loop(images * lines, line, "line", parallel=many)
    return Launch(kernel.finish(body), (x, gate), last(shape), "float32")


def _scaled_rows(
    name: str, packed: Packed, wide: int, gate: int, g: Geometry, target: Target
) -> Launch:
    """Packed weights of a pointwise convolution, [panel][k][`wide` columns]: row k times gate k."""
    kernel = Kernel(name)
    lanes, depth = lanes_of(target), g.channels
    full, rest = divmod(packed.size // depth, wide)
    values = kernel.param(packed.shape, "float32", "w")
    gates = kernel.param((1, depth), "float32", "gate")
    out = kernel.param(packed.shape, "float32", "y")

    def rows(start: Index, width: int) -> Stmt:
        def row(k: tirx.Expr) -> Stmt:
            at = index(start) + k * width
            return seq(
                out.store(at + v, values.load(at + v, lanes) * gates.splat(k, lanes), lanes)
                for v in range(0, width, lanes)
            )

        return loop(depth, row, "k")

    many = worth_threads(packed.size, FEWEST_ELEMENTS)
    whole = lambda p: rows(p * (depth * wide), wide)  # noqa: E731
    steps = [loop(full, whole, "panel", parallel=many)] if full else []
    if rest:
        steps.append(rows(full * depth * wide, rest))
    return Launch(kernel.finish(seq(steps)), (packed, gate), packed.shape, "float32")


SQUEEZE_EXCITATION = Rule("squeeze_excitation", SqueezeExcitationSpec, _refuses, _lower)
