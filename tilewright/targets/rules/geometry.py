"""The sizes of a convolution, as its rules need them."""

from __future__ import annotations

import numpy as np
from tvm import tirx

from tilewright.ops import ConvSpec
from tilewright.targets.rules.borders import Bordered
from tilewright.targets.rules.tir import Index


class Geometry:
    """Sizes of a convolution, two spatial axes always (a 1-D one has one row).

    `images` are those that knobs are made for, `repeats` how often there are as many: all of them,
    once; one, the batch's number of times, where the batch is open.
    """

    def __init__(self, spec: ConvSpec) -> None:
        flat = len(spec.x) == 3
        self.batch, self.channels = spec.x[0], spec.x[1]
        known = isinstance(self.batch, int)
        self.images, self.repeats = (self.batch, 1) if known else (1, self.batch)
        self.size = (1, spec.x[2]) if flat else spec.x[2:]
        self.out_channels, self.group_channels = spec.w[0], spec.w[1]
        self.groups = spec.groups
        self.kernel = (1, spec.w[2]) if flat else spec.w[2:]
        self.strides = (1, *spec.strides) if flat else spec.strides
        self.dilation = (1, *spec.dilation) if flat else spec.dilation
        begins, ends = np.split(np.array(spec.padding), 2)
        self.begins = (0, int(begins[0])) if flat else tuple(map(int, begins))
        self.ends = (0, int(ends[0])) if flat else tuple(map(int, ends))
        self.bordered = Bordered(self.batch, self.size, self.channels, self.begins, self.ends)
        self.padded = self.bordered.padded
        self.out = tuple(
            (size - (kernel - 1) * dilation - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                self.padded, self.kernel, self.strides, self.dilation, strict=True
            )
        )

        positions = self.out[1:] if flat else self.out
        self.x_last = (self.batch, *spec.x[2:], self.channels)
        self.x_padded = self.bordered.shape if self.pads else self.x_last
        self.y_last = (self.batch, *positions, self.out_channels)

    @property
    def positions(self) -> int:
        """Outputs of one channel, in one of the repeats."""
        return self.images * self.out[0] * self.out[1]

    def window(self, position: Index) -> Index:
        """Where the window of an output begins in an x that needs no padding."""
        if self.kernel == (1, 1) and self.strides == (1, 1):
            return position * self.channels
        (oh, ow), (sh, sw), (tall, wide) = self.out, self.strides, self.padded
        image, at = tirx.floordiv(position, oh * ow), tirx.floormod(position, oh * ow)
        line, column = tirx.floordiv(at, ow), tirx.floormod(at, ow)
        return ((image * tall + line * sh) * wide + column * sw) * self.channels

    def windows(self, position: Index, count: int) -> list[Index]:
        """Where the windows of `count` neighbours begin, `position` the first of them.

        Divisions take longer than a short window: there are those of the first alone. The others
        lie a stride further each, and a jump further from where a line ends.
        """
        (oh, ow), (sh, sw), (tall, wide) = self.out, self.strides, self.padded
        plain = self.kernel == (1, 1) and self.strides == (1, 1)
        if plain or count == 1 or count > ow:
            return [self.window(position + r) for r in range(count)]
        first, column = self.window(position), tirx.floormod(position, ow)
        jump: Index = (sh * wide - ow * sw) * self.channels
        if self.batch != 1:
            last = tirx.floormod(tirx.floordiv(position, ow), oh) == oh - 1
            to_next = ((tall - (oh - 1) * sh) * wide - ow * sw) * self.channels
            jump = tirx.if_then_else(last, to_next, jump)
        steps = [r * sw * self.channels for r in range(count)]
        return [
            first + step + tirx.if_then_else(column + r >= ow, jump, 0)
            for r, step in enumerate(steps)
        ]

    @property
    def pads(self) -> bool:
        """Whether x must be copied into a larger array first."""
        return self.bordered.pads
