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
    says whether b1 and b2 are there; `before` are the convolutions that make x, the last one
    depthwise, and `projection` is the one that reads the scaled x, where they are in the group.
    With all of them it is an inverted residual block (Tan and Le 2019, table 1: MBConv).
    """

    x: Shape
    squeezed: int
    biases: tuple[bool, bool]
    activation: Step
    gate: Step
    projection: ConvSpec | None = None
    before: tuple[ConvSpec, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x, squeezed=self.squeezed)
        if self.before and self.before[-1].w[0] != self.x[1]:
            made = self.before[-1].w[0]
            raise ValueError(f"SqueezeExcitation: {made} channels are made, not {self.x[1]}")
