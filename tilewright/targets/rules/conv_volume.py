"""Convolutions over three axes, channels last, as products whose rows are windows of the input.

    out[n, od, oh, ow, :] = sum over kd, kh, (kw, ic) of
        x[n, od s + kd, oh s + kh, ow s + kw, ic] * w[kd, kh, (kw, ic), :]

As of two axes (`conv`): for one kd and kh the elements of a window lie side by side, and where the
convolution pads, x is copied once into a larger array with zeros around it. Groups of channels are
a product each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec
from tilewright.targets.rules import conv
from tilewright.targets.rules.blocking import default_blocking
from tilewright.targets.rules.borders import Bordered, padded
from tilewright.targets.rules.contraction import Product, Store, contractions
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Lowered, Names, Rule
from tilewright.targets.rules.tir import Index, digits, index
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target

# Channels of a group from which on a product for each is quicker than sums one by one.
FEWEST_CHANNELS = 4


@dataclass(frozen=True)
class _Volume:
    """Sizes of such a convolution, three to a tuple: depth, height, width."""

    spec: ConvSpec

    @property
    def bordered(self) -> Bordered:
        """Its input with the padding."""
        (batch, channels, *size), padding = self.spec.x, self.spec.padding
        return Bordered(batch, tuple(size), channels, padding[:3], padding[3:])

    @property
    def padded(self) -> tuple[int, ...]:
        return self.bordered.padded

    @property
    def out(self) -> tuple[int, ...]:
        spec = self.spec
        return tuple(
            (size - (kernel - 1) * dilation - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                self.padded, spec.w[2:], spec.strides, spec.dilation, strict=True
            )
        )

    def window(self, position: Index) -> Index:
        """Where the window of an output begins in an x that needs no padding."""
        at, *places = digits(position, self.out)
        for place, size, stride in zip(places, self.padded, self.spec.strides, strict=True):
            at = at * size + place * stride
        return at * self.spec.x[1]

    @property
    def windows(self) -> Reduction:
        """What is summed over, seen from where a window begins."""
        (_, *taps), (dd, dh, dw) = self.spec.w[1:], self.spec.dilation
        (_, tall, wide), c, each = self.padded, self.spec.x[1], self.spec.w[1]
        steps = (dd * tall * wide * c, dh * wide * c, dw * c)
        together = dw == 1 and self.spec.groups == 1
        runs = taps[:2] if together else taps

        def run(j: tirx.Expr) -> Index:
            places = digits(j, runs)[1:]
            return sum(place * step for place, step in zip(places, steps, strict=False))

        return Reduction(math.prod(runs), each * (taps[2] if together else 1), run)


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: ConvSpec = call.spec
    if len(spec.x) != 5:
        return f"it has {len(spec.x) - 2} spatial axes"
    if spec.w[1] < FEWEST_CHANNELS and spec.groups > 1:
        return f"its groups have fewer than {FEWEST_CHANNELS} channels"
    return conv.refuses(spec, most_axes=3)


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: ConvSpec = call.spec
    v, names, w = _Volume(spec), Names(call.name), call.get("w").array
    x: Given | int = Given("x", channels_last=True)
    launches = []
    (batch, c, *size), n, kernel = spec.x, spec.w[0], spec.w[2:]
    if v.bordered.pads:
        shape = (batch, *size, c)
        launches.append(padded(names.next("pad"), x, shape, v.bordered, target))
        x = 0
    known = isinstance(batch, int)
    each, depth, lanes = math.prod(v.out), math.prod(kernel) * spec.w[1], lanes_of(target)
    name, m, groups = names.next("conv"), each * batch if known else each, spec.groups
    of_group = n // groups
    blocking = default_blocking(name, m, of_group, depth, target, v.windows.runs)

    def columns() -> np.ndarray:
        parts = w.reshape(groups, of_group, *spec.w[1:]).transpose(0, 3, 4, 5, 2, 1)
        return parts.reshape(groups, depth, of_group)

    shape = (groups, depth, of_group)
    packed = packed_columns(shape, blocking.vectors * lanes, lanes, columns)
    arrays, out = conv.operands(call), (batch, *v.out, n)
    k = WeightedKernel(name, v.bordered.shape, packed, out, spec.epilogue, arrays, lanes)

    def nest(group: tirx.Expr) -> tuple[Product, Store]:
        def store(r: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
            channel = group * of_group + column
            return k.store(index(r) * n + channel, channel, width, value)

        product = Product(
            m=m,
            n=of_group,
            a=k.x,
            row=lambda r: v.window(r) + group * spec.w[1],
            reduction=v.windows,
            b=k.w,
            b_base=group * packed.shape[1],
            row_step=spec.strides[2] * c,
            begin=lambda column, lanes: k.begin(group * of_group + column, lanes),
            repeats=1 if known else k.kernel.size(batch),
        )
        return product, store

    launches.append(k.launch(contractions(groups, nest, blocking, target), x))
    return Lowered(tuple(launches), channels_last=True)


CONV_VOLUME = Rule("conv_volume", ConvSpec, _refuses, _lower)
