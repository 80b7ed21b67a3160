"""Two matrix products with an activation between them."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Shape, Spec, check_sizes


@dataclass(frozen=True)
class MlpSpec(Spec):
    """y = (act(x w1 + b1) [* (x w3 + b3)]) w2 + b2, `gated` with the factor in brackets.

    `x` is the input's shape, `hidden` and `out` the widths. `epilogue` follows the last product.
    """

    x: Shape
    hidden: int
    out: int
    activation: str
    gated: bool
    epilogue: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x, hidden=self.hidden, out=self.out)
