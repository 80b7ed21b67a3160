"""What may follow a convolution or a matrix product in the store of its result."""

from __future__ import annotations

from tilewright.passes.activations import activation
from tilewright.passes.pattern import Any, Constant, Either, Op, Pattern


def epilogue(y: Pattern) -> Pattern:
    """`y` [+ bias] [+ residual] [activation [+ late_residual]].

    A constant is tried as a bias first: why it is none is then what a near miss says.
    """
    biased = Op("relax.add", y, Constant("bias"))
    residual = Any("residual")
    summed = Either(Op("relax.add", biased, residual), biased, Op("relax.add", y, residual), y)
    active = activation(summed)
    return Either(Op("relax.add", active, Any("late_residual")), active, summed)
