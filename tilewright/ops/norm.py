"""Normalisations."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Shape, Spec, check_sizes

METHODS = ("layer", "rms", "group", "instance", "batch")


@dataclass(frozen=True)
class NormSpec(Spec):
    """Normalise `x` over `axes`: layer (Ba et al. 2016) or rms (Zhang and Sennrich 2019) and kin.

    `epilogue` as in ConvSpec; `skip` says that the input is a sum computed here.
    """

    method: str
    x: Shape
    axes: tuple[int, ...]
    epsilon: float
    skip: bool = False
    epilogue: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x)
        if self.method not in METHODS:
            raise ValueError(f"Norm: method {self.method!r}, want one of {METHODS}")
