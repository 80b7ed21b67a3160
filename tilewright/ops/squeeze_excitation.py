"""Squeeze-and-excitation with its final multiplication."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.conv import ConvSpec
from tilewright.ops.spec import Shape, Spec, check_sizes
from tilewright.ops.step import Step


@dataclass(frozen=True)
class SqueezeExcitationSpec(Spec):
    """y = x * gate(w2 act(w1 mean(x) + b1) + b2) (Hu et al. 2018, section 3).

    `x` is [batch, channels, *spatial]; `squeezed` the number of channels in the middle; `biases`
    says whether b1 and b2 are there; `projection` is the convolution that reads the scaled x, where
    it is in the group.
    """

    x: Shape
    squeezed: int
    biases: tuple[bool, bool]
    activation: Step
    gate: Step
    projection: ConvSpec | None = None

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x, squeezed=self.squeezed)
