"""Activations and softmax that stand alone."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Shape, Spec, check_sizes
from tilewright.ops.step import Step


@dataclass(frozen=True)
class ActivationSpec(Spec):
    """y = function(x), elementwise."""

    function: Step
    x: Shape

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x)


@dataclass(frozen=True)
class SoftmaxSpec(Spec):
    """Softmax of `x` along `axis`, counted from the front, or its logarithm with `log`."""

    x: Shape
    axis: int
    log: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x)
