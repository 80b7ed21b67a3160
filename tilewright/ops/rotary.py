"""Rotary position embedding."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Shape, Spec, check_sizes


@dataclass(frozen=True)
class RotarySpec(Spec):
    """y = x * cos + rotate_half(x) * sin over the last axis of `x` (Su et al. 2021).

    `cos` and `sin` are shapes, which broadcast to that of `x`.
    """

    x: Shape
    cos: Shape
    sin: Shape

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x, cos=self.cos, sin=self.sin)
