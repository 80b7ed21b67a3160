"""What may follow a convolution or a matrix product in the store of its result."""

from __future__ import annotations

from tilewright.ops import Step
from tilewright.passes.activations import activation, step_of
from tilewright.passes.pattern import Any, Constant, Either, Graph, Match, Op, Pattern


def epilogue(y: Pattern) -> Pattern:
    """`y` [+ bias] [+ residual] [activation [+ late_residual]].

    A constant is tried as a bias first: why it is none is then what a near miss says.
    """
    biased = Op("relax.add", y, Constant("bias"))
    residual = Any("residual")
    summed = Either(Op("relax.add", biased, residual), biased, Op("relax.add", y, residual), y)
    active = activation(summed)
    return Either(Op("relax.add", active, Any("late_residual")), active, summed)


def steps_of(match: Match, graph: Graph) -> tuple[Step, ...]:
    """What `match` found of an epilogue, in order."""
    steps = (
        Step("bias") if match.get("bias") is not None else None,
        Step("residual") if match.get("residual") is not None else None,
        step_of(match, graph),
        Step("residual") if match.get("late_residual") is not None else None,
    )
    return tuple(step for step in steps if step is not None)
