"""Normalisations."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Shape, Spec, check_sizes
from tilewright.ops.step import Step

METHODS = ("layer", "rms", "group", "instance", "batch")


@dataclass(frozen=True)
class NormSpec(Spec):
    """Normalise `x` over `axes`: layer (Ba et al. 2016) or rms (Zhang and Sennrich 2019) and kin.

    `groups` is the number of groups of channels of a group norm. `weight` and `bias` say whether
    the result is multiplied, then shifted, along the normalised axes (group and instance: per
    channel). `skip` says that the input is a sum computed here. `epilogue` as in ConvSpec.
    """

    method: str
    x: Shape
    axes: tuple[int, ...]
    epsilon: float
    weight: bool
    bias: bool
    groups: int = 1
    skip: bool = False
    epilogue: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x)
        if self.method not in METHODS:
            raise ValueError(f"Norm: method {self.method!r}, want one of {METHODS}")
