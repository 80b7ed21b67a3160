"""Convolutions with what follows them."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Shape, Spec, check_sizes
from tilewright.ops.step import Step


@dataclass(frozen=True)
class ConvSpec(Spec):
    """y = epilogue(conv(x, w)): 1-, 2- or 3-dimensional, transposed or not, channels first.

    `x` and `w` are shapes as ONNX has them (w: [out, in / groups, *kernel], transposed:
    [in, out / groups, *kernel]); `padding` is all begins, then all ends. `output_padding` is
    what a transposed one adds at the ends. `epilogue` is what is applied in the store, in order:
    bias, residual, an activation, max_pool.
    """

    x: Shape
    w: Shape
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    epilogue: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x, w=self.w)
        rank = len(self.x) - 2
        if len(self.strides) != rank or len(self.dilation) != rank:
            raise ValueError(f"Conv: {rank} axes, strides {self.strides}, dilation {self.dilation}")
        if len(self.padding) != 2 * rank:
            raise ValueError(f"Conv: padding {self.padding}, want {2 * rank} numbers")
        if self.groups < 1:
            raise ValueError(f"Conv: {self.groups} groups")

    @property
    def pointwise(self) -> bool:
        """A matrix product over the channels of each position."""
        return self.groups == 1 and not self.transposed and all(size == 1 for size in self.w[2:])

    @property
    def depthwise(self) -> bool:
        """One filter per channel."""
        return self.groups > 1 and self.groups == self.x[1] and self.w[1] == 1
