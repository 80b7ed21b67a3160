"""Transposed convolutions, channels last, as ordinary ones: one for each phase of the strides.

    out[q s + p] = sum over the taps k with (p + begin - k d) divisible by s of
                   x[q + (p + begin - k d) / s] * w[k]

For one phase p (of each of up to three axes) that is a convolution with stride 1 over some of the
taps, in reverse order, so that no zero is inserted and none is multiplied. A 2x2 one with stride 2
has four phases of one tap: four matrix products. A phase without taps (a kernel smaller than the
stride) is what the steps make of 0.

Source: Dumoulin and Visin 2016, arXiv:1603.07285, section 4; the phases are Shi et al. 2016,
arXiv:1609.07009.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec, Step
from tilewright.ops.spec import Shape
from tilewright.targets.rules import conv
from tilewright.targets.rules.blocking import default_blocking
from tilewright.targets.rules.borders import Bordered, padded
from tilewright.targets.rules.contraction import Product, Store, contractions
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Packed, Rule
from tilewright.targets.rules.tir import Index, digits, index, seq
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target


@dataclass(frozen=True)
class Phase:
    """The outputs `start`, `start` + stride, ... of an axis, `count` of them.

    Output q of them reads x[q + offset] for each of `offsets`, times the tap at the same place
    in `taps`. Offsets ascend and lie `step` apart.
    """

    start: int
    count: int
    taps: tuple[int, ...]
    offsets: tuple[int, ...]

    @property
    def step(self) -> int:
        """How far apart the offsets are."""
        return self.offsets[1] - self.offsets[0] if len(self.offsets) > 1 else 1


def phases(out: int, kernel: int, stride: int, dilation: int, begin: int) -> list[Phase]:
    """The phases of an axis that have outputs."""
    found = []
    for start in range(min(stride, out)):
        taps = [k for k in range(kernel) if (start + begin - k * dilation) % stride == 0]
        taps.reverse()
        offsets = tuple((start + begin - k * dilation) // stride for k in taps)
        found.append(Phase(start, -(-(out - start) // stride), tuple(taps), offsets))
    return found


class Axes:
    """The phases of every axis, and the zeros around x that all of them need.

    `images` are those that knobs are made for, `repeats` how often there are as many (`Geometry`).
    """

    def __init__(self, spec: ConvSpec) -> None:
        batch, channels, *size = spec.x
        known = isinstance(batch, int)
        self.images, self.repeats = (batch, 1) if known else (1, batch)
        kernel, strides, rank = spec.w[2:], spec.strides, len(size)
        begins, ends = spec.padding[:rank], spec.padding[rank:]
        more = spec.output_padding or (0,) * rank
        sums = zip(size, kernel, strides, spec.dilation, begins, ends, more, strict=True)
        self.out = tuple(
            (n - 1) * s + (k - 1) * d + 1 - begin - end + extra
            for n, k, s, d, begin, end, extra in sums
        )
        self.phases = [
            phases(*axis)
            for axis in zip(self.out, kernel, strides, spec.dilation, begins, strict=True)
        ]
        before = tuple(max([0, *(-o for p in found for o in p.offsets)]) for found in self.phases)
        after = tuple(
            max([0, *(p.count + o - n for p in found for o in p.offsets)])
            for found, n in zip(self.phases, size, strict=True)
        )
        self.x = Bordered(batch, tuple(size), channels, before, after)
        self.y_last = (batch, *self.out, spec.w[1] * spec.groups)


def product(
    name: str,
    x: Given | int,
    spec: ConvSpec,
    axes: Axes,
    w: np.ndarray,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
) -> Launch:
    """All phases, over an x that needs no padding; `w` is [c, n of a group, *kernel]."""
    lanes = lanes_of(target)
    c, n = spec.x[1] // spec.groups, spec.w[1]
    # [groups, *kernel, c, n]
    filters = np.moveaxis(w.reshape(spec.groups, c, n, *spec.w[2:]), (1, 2), (-2, -1))
    nests, packed = [], []
    base = 0
    for phase in itertools.product(*axes.phases):
        m = axes.images * math.prod(axis.count for axis in phase)
        depth = math.prod(len(axis.taps) for axis in phase) * c
        blocking = default_blocking(f"{name}_phase{len(nests)}", m, n, max(1, depth), target)
        shape = (spec.groups, depth, n)

        def columns(phase: tuple[Phase, ...] = phase, shape: Shape = shape) -> np.ndarray:
            # The phase's taps, in the order of their offsets.
            taps = filters
            for axis, part in enumerate(phase):
                taps = taps.take(part.taps, axis + 1)
            return taps.reshape(shape)

        panels = packed_columns(shape, blocking.vectors * lanes, lanes, columns)
        nests.append((phase, blocking, base, panels.shape[-1]))
        packed.append(panels)
        base += panels.size
    weights = Packed((base,), lambda: np.concatenate([part.make().reshape(-1) for part in packed]))
    k = WeightedKernel(name, axes.x.shape, weights, axes.y_last, steps, arrays, lanes)
    place = _Places(spec, axes, k)
    body = seq(
        contractions(
            spec.groups,
            lambda i, phase=phase, b=base, size=size: place.of(phase, i, b + i * size),
            blocking,
            target,
        )
        for phase, blocking, base, size in nests
    )
    return k.launch(body, x)


@dataclass(frozen=True)
class _Places:
    """Where a phase reads and writes."""

    spec: ConvSpec
    axes: Axes
    kernel: WeightedKernel

    def of(self, phase: tuple[Phase, ...], group: Index, base: Index) -> tuple[Product, Store]:
        """The product of one group in one phase; its weights begin at `base`."""
        c, n, channels = self.spec.x[1] // self.spec.groups, self.spec.w[1], self.spec.x[1]
        counts = [axis.count for axis in phase]
        sizes, begins = self.axes.x.padded, self.axes.x.begins
        firsts = [
            begin + (axis.offsets[0] if axis.offsets else 0)
            for begin, axis in zip(begins, phase, strict=True)
        ]

        def row(r: Index) -> Index:
            at, *places = digits(index(r), counts)
            for place, size, first in zip(places, sizes, firsts, strict=True):
                at = at * size + place + first
            return at * channels + group * c

        def store(r: Index, column: Index, lanes: int, value: tirx.Expr) -> Stmt:
            at, *places = digits(index(r), counts)
            axes = zip(places, self.axes.out, self.spec.strides, phase, strict=True)
            for place, size, stride, axis in axes:
                at = at * size + place * stride + axis.start
            channel = group * n + column
            return self.kernel.store(at * (n * self.spec.groups) + channel, channel, lanes, value)

        product = Product(
            m=self.axes.images * math.prod(counts),
            n=n,
            a=self.kernel.x,
            row=row,
            reduction=self._taps(phase, c),
            b=self.kernel.w,
            b_base=base,
            row_step=channels,
            repeats=self.kernel.kernel.size(self.axes.repeats),
            begin=lambda column, lanes: self.kernel.begin(group * n + column, lanes),
        )
        return product, store

    def _taps(self, phase: tuple[Phase, ...], c: int) -> Reduction:
        """The taps of a phase, seen from the first; where they can, those of a row in one run."""
        sizes, channels = self.axes.x.padded, self.spec.x[1]
        counts = [len(axis.taps) for axis in phase]
        steps = [axis.step * math.prod(sizes[i + 1 :]) for i, axis in enumerate(phase)]
        length = c
        if self.spec.groups == 1 and phase[-1].step == 1:
            length *= counts.pop()

        def run(j: tirx.Expr) -> Index:
            # A phase without taps has no j either; nothing is divided by zero for it.
            places = digits(j, [max(1, count) for count in counts])[1:]
            return sum(p * step for p, step in zip(places, steps, strict=False)) * channels

        return Reduction(math.prod(counts), length, run)


def _refuses(call: GroupCall, target: Target) -> str | None:
    if not call.spec.transposed:
        return "it is not transposed"
    return conv.refuses(replace(call.spec, transposed=False), most_axes=3)


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: ConvSpec = call.spec
    axes, names = Axes(spec), Names(call.name)
    steps, pools = conv.split(spec.epilogue)
    x: Given | int = Given("x", channels_last=True)
    launches: tuple[Launch, ...] = ()
    if axes.x.pads:
        shape = (spec.x[0], *spec.x[2:], spec.x[1])
        launches, x = (padded(names.next("pad"), x, shape, axes.x, target),), 0
    w, arrays = call.get("w").array, conv.operands(call)
    launches += (product(names.next(), x, spec, axes, w, steps, arrays, target),)
    y = len(launches) - 1
    launches += conv.pooled(names, y, axes.y_last, pools, target)
    return Lowered(launches, channels_last=True)


CONV_TRANSPOSED = Rule("conv_transposed", ConvSpec, _refuses, _lower)
