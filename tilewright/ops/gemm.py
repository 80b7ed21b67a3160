"""Matrix products with what follows them."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Dim, Shape, Spec, check_sizes


@dataclass(frozen=True)
class GemmSpec(Spec):
    """y[batch, m, n] = epilogue(x[batch, m, k] @ w[k, n]).

    `batch` are the leading sizes of y; `constant_weights` says that w is known at compile time
    (and can be packed). `epilogue` as in ConvSpec.
    """

    batch: Shape
    m: Dim
    n: Dim
    k: Dim
    constant_weights: bool
    epilogue: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, batch=self.batch, m=self.m, n=self.n, k=self.k)
