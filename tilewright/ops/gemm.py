"""Matrix products with what follows them."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Dim, Shape, Spec, check_sizes
from tilewright.ops.step import Step


@dataclass(frozen=True)
class GemmSpec(Spec):
    """y[*batch, m, n] = epilogue(x[*batch, m, k] @ w[*batch, k, n]), batches broadcast.

    `x` and `w` are shapes of two axes or more. With `pooled`, x is [m, k, *positions], and its
    mean over the positions is what is multiplied. `constant_weights` says that w is known at
    compile time (and can be packed). `epilogue` as in ConvSpec.
    """

    x: Shape
    w: Shape
    constant_weights: bool
    pooled: bool = False
    epilogue: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x, w=self.w)
        if len(self.x) < 2 + self.pooled or len(self.w) < 2:
            raise ValueError(f"Gemm: {self.x} by {self.w}, pooled: {self.pooled}")
        sizes = (self.k, self.w[-2])
        if all(isinstance(size, int) for size in sizes) and sizes[0] != sizes[1]:
            raise ValueError(f"Gemm: sums of {sizes[0]} terms in {self.x}, {sizes[1]} in {self.w}")

    @property
    def m(self) -> Dim:
        """Rows of the product."""
        return self.x[0 if self.pooled else -2]

    @property
    def n(self) -> Dim:
        """Columns of the product."""
        return self.w[-1]

    @property
    def k(self) -> Dim:
        """Terms of each sum."""
        return self.x[1 if self.pooled else -1]

    @property
    def batch(self) -> Shape:
        """Leading sizes of the product."""
        x, w = (() if self.pooled else self.x[:-2]), self.w[:-2]
        rank = max(len(x), len(w))
        pairs = zip((1,) * (rank - len(x)) + x, (1,) * (rank - len(w)) + w, strict=True)
        return tuple(b if a == 1 else a for a, b in pairs)
