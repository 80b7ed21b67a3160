"""Transposed convolutions, channels last, as ordinary ones: one for each phase of the strides.

    out[q s + p] = sum over the taps k with (p + begin - k d) divisible by s of
                   x[q + (p + begin - k d) / s] * w[k]

For one phase p (of each axis) that is a convolution with stride 1 over some of the taps, in
reverse order, so that no zero is inserted and none is multiplied. A 2x2 one with stride 2 has four
phases of one tap: four matrix products. A phase without taps (a kernel smaller than the stride)
is what the steps make of 0.

Source: Dumoulin and Visin 2016, arXiv:1603.07285, section 4; the phases are Shi et al. 2016,
arXiv:1609.07009.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec, Step
from tilewright.targets.rules import conv
from tilewright.targets.rules.blocking import default_blocking
from tilewright.targets.rules.contraction import Product, Store, contractions
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Packed, Rule
from tilewright.targets.rules.tir import Index, index, seq
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
    """The phases of both axes, and the padding of x that all of them need."""

    def __init__(self, spec: ConvSpec) -> None:
        flat = len(spec.x) == 3
        one, zero = ((1,), (0,)) if flat else ((), ())
        self.size = one + spec.x[2:]
        kernel, strides = one + spec.w[2:], one + spec.strides
        dilation = one + spec.dilation
        more = zero + (spec.output_padding or (0,) * len(spec.strides))
        begins, ends = np.split(np.array(spec.padding), 2)
        begins, ends = zero + tuple(map(int, begins)), zero + tuple(map(int, ends))
        sums = zip(self.size, kernel, strides, dilation, begins, ends, more, strict=True)
        self.out = tuple(
            (size - 1) * s + (k - 1) * d + 1 - begin - end + extra
            for size, k, s, d, begin, end, extra in sums
        )
        self.kernel, self.strides = kernel, strides
        self.phases = [
            phases(*axis) for axis in zip(self.out, kernel, strides, dilation, begins, strict=True)
        ]
        self.begins = tuple(
            max([0, *(-o for p in found for o in p.offsets)]) for found in self.phases
        )
        ends = tuple(
            max([0, *(p.count + o - size for p in found for o in p.offsets)])
            for found, size in zip(self.phases, self.size, strict=True)
        )
        self.y_last = (spec.x[0], *(self.out[1:] if flat else self.out), spec.w[1] * spec.groups)
        # The padding is that of a convolution with one tap.
        ones = (1,) * len(spec.x[2:])
        padding = self.begins[-len(ones) :] + ends[-len(ones) :]
        self.x = Geometry(ConvSpec(spec.dtype, spec.x, (1, spec.x[1], *ones), ones, padding, ones))


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
    # [groups, kh, kw, c, n]
    filters = w.reshape(spec.groups, c, n, *axes.kernel).transpose(0, 3, 4, 1, 2)
    nests, packed = [], []
    base = 0
    for tall, wide in itertools.product(*axes.phases):
        m = axes.x.images * tall.count * wide.count
        depth = len(tall.taps) * len(wide.taps) * c
        blocking = default_blocking(f"{name}_phase{len(nests)}", m, n, max(1, depth), target)
        shape = (spec.groups, depth, n)

        def columns(rows: tuple = tall.taps, along: tuple = wide.taps, shape=shape) -> np.ndarray:
            # The phase's taps, in the order of their offsets.
            return filters[:, list(rows)][:, :, list(along)].reshape(shape)

        panels = packed_columns(shape, blocking.vectors * lanes, lanes, columns)
        nests.append((tall, wide, blocking, base, panels.shape[-1]))
        packed.append(panels)
        base += panels.size
    weights = Packed((base,), lambda: np.concatenate([part.make().reshape(-1) for part in packed]))
    k = WeightedKernel(name, axes.x.x_padded, weights, axes.y_last, steps, arrays, lanes)
    place = _Places(spec, axes, k)
    body = seq(
        contractions(
            spec.groups,
            lambda i, t=tall, u=wide, b=base, size=size: place.of(t, u, i, b + i * size),
            blocking,
            target,
        )
        for tall, wide, blocking, base, size in nests
    )
    return k.launch(body, x)


@dataclass(frozen=True)
class _Places:
    """Where a phase reads and writes."""

    spec: ConvSpec
    axes: Axes
    kernel: WeightedKernel

    def of(self, tall: Phase, wide: Phase, group: Index, base: Index) -> tuple[Product, Store]:
        """The product of one group in one phase; its weights begin at `base`."""
        c, n, channels = self.spec.x[1] // self.spec.groups, self.spec.w[1], self.spec.x[1]
        (top, left), (height, width) = self.axes.begins, self.axes.x.padded
        top += tall.offsets[0] if tall.offsets else 0
        left += wide.offsets[0] if wide.offsets else 0

        def position(r: Index) -> tuple[Index, Index, Index]:
            each = tall.count * wide.count
            image, at = tirx.floordiv(r, each), tirx.floormod(r, each)
            return image, tirx.floordiv(at, wide.count), tirx.floormod(at, wide.count)

        def row(r: Index) -> Index:
            image, h, v = position(index(r))
            return ((image * height + h + top) * width + v + left) * channels + group * c

        def store(r: Index, column: Index, lanes: int, value: tirx.Expr) -> Stmt:
            image, h, v = position(index(r))
            (oh, ow), (sh, sw) = self.axes.out, self.axes.strides
            channel = group * n + column
            at = (image * oh + h * sh + tall.start) * ow + v * sw + wide.start
            place = at * (n * self.spec.groups) + channel
            return self.kernel.store(place, channel, lanes, value)

        taps = len(wide.taps)
        if self.spec.groups == 1 and wide.step == 1:
            line = tall.step * width * channels
            reduction = Reduction(len(tall.taps), taps * c, lambda j: j * line)
        else:
            # A phase without taps has no j either; nothing is divided by zero for it.
            along = max(1, taps)
            reduction = Reduction(
                len(tall.taps) * taps,
                c,
                lambda j: (
                    (
                        tirx.floordiv(j, along) * (tall.step * width)
                        + tirx.floormod(j, along) * wide.step
                    )
                    * channels
                ),
            )
        product = Product(
            m=self.axes.x.images * tall.count * wide.count,
            n=n,
            a=self.kernel.x,
            row=row,
            reduction=reduction,
            b=self.kernel.w,
            b_base=base,
            row_step=channels,
            repeats=self.kernel.kernel.size(self.axes.x.repeats),
            begin=lambda column, lanes: self.kernel.begin(group * n + column, lanes),
        )
        return product, store


def _refuses(call: GroupCall, target: Target) -> str | None:
    if not call.spec.transposed:
        return "it is not transposed"
    return conv.refuses(replace(call.spec, transposed=False))


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: ConvSpec = call.spec
    axes, names = Axes(spec), Names(call.name)
    steps, pools = conv.split(spec.epilogue)
    x: Given | int = Given("x", channels_last=True)
    launches: tuple[Launch, ...] = ()
    if axes.x.pads:
        launches, x = (conv.padded(names.next("pad"), x, axes.x, target),), 0
    w, arrays = call.get("w").array, conv.operands(call)
    launches += (product(names.next(), x, spec, axes, w, steps, arrays, target),)
    y = len(launches) - 1
    launches += conv.pooled(names, y, axes.y_last, pools, target)
    return Lowered(launches, channels_last=True)


CONV_TRANSPOSED = Rule("conv_transposed", ConvSpec, _refuses, _lower)
