"""A convolution and the one that reads its result."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.conv import ConvSpec
from tilewright.ops.spec import Spec


@dataclass(frozen=True)
class ConvChainSpec(Spec):
    """y = second(first(x)): each a convolution with its epilogue.

    Published as the first two thirds of an inverted residual block (Sandler et al. 2018, section
    3.3): a pointwise convolution that expands, a depthwise one.
    """

    first: ConvSpec
    second: ConvSpec

    def __post_init__(self) -> None:
        written, read = self.first.w[0], self.second.x[1]
        if self.first.transposed or written != read:
            raise ValueError(f"ConvChain: the first writes {written} channels, not {read}")
