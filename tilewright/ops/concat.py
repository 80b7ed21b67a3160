"""A concat along the channels."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.conv import ConvSpec
from tilewright.ops.spec import Shape, Spec


@dataclass(frozen=True)
class ConcatSpec(Spec):
    """y = concat(parts) along axis 1: convolutions with their epilogues, or shapes of values.

    Source: Szegedy et al. 2015, "Going deeper with convolutions", section 4.
    """

    parts: tuple[ConvSpec | Shape, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("Concat: no parts")
