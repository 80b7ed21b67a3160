"""Two matrix products with an activation between them."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Shape, Spec, check_sizes
from tilewright.ops.step import Step


@dataclass(frozen=True)
class MlpSpec(Spec):
    """y = (act(x w1 + b1) [* (x w3 + b3)]) w2 + b2, `gated` with the factor in brackets.

    `x` is the input's shape, `hidden` and `out` the widths; `hidden_bias` says whether b1 is there,
    `gate_bias` whether b3 is. With `activated_half` one product makes both hidden halves, [w1 w3]
    or [w3 w1], and the half of that number (0 or 1) is activated. `epilogue` follows the last
    product and starts with b2 where it is there.
    """

    x: Shape
    hidden: int
    out: int
    activation: Step
    hidden_bias: bool
    gated: bool
    gate_bias: bool = False
    activated_half: int | None = None
    epilogue: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        check_sizes(self, x=self.x, hidden=self.hidden, out=self.out)
        if self.activated_half is not None and not (self.gated and self.activated_half in (0, 1)):
            raise ValueError(f"Mlp: activated half {self.activated_half}, gated: {self.gated}")
