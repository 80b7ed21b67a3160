"""What may follow a convolution or a matrix product in the store of its result.

Before   y = (relu(conv + b) + r) / 6
After    y = epilogue(conv, b, r)

A group is closed to TVM's own fusion of elementwise operators. What it would have fused must
therefore be in the group: `tail` takes operators of one value, and of a value and a number, that
stand in no form of an activation.
"""

from __future__ import annotations

from tilewright.ops import Step
from tilewright.ops.spec import Shape
from tilewright.ops.step import ELEMENTWISE, WITH_NUMBER
from tilewright.passes.activations import activation, step_of
from tilewright.passes.pattern import Any, Constant, Either, Graph, Match, Op, Pattern, Tagged
from tilewright.passes.shapes import shape_of

# How many such operators one group may end in.
TAIL = 4
_NUMBER_FIRST = {"subtract_from": "relax.subtract", "divide_into": "relax.divide"}


def epilogue(y: Pattern) -> Pattern:
    """`y` [+ bias] [+ residual] [activation [+ late_residual]] [elementwise operators].

    A constant is tried as a bias first: why it is none is then what a near miss says.
    """
    biased = Op("relax.add", y, Constant("bias"))
    residual = Any("residual")
    summed = Either(Op("relax.add", biased, residual), biased, Op("relax.add", y, residual), y)
    active = activation(summed)
    stored = Either(Op("relax.add", active, Any("late_residual")), active, summed)
    for place in range(TAIL):
        stored = Either(stored, _tail(stored, f"tail{place}"))
    return stored


def _tail(y: Pattern, name: str) -> Pattern:
    """One more operator; the same places of the match as an activation called `name` has."""
    number = Constant(f"{name}.number", single=True)
    forms = {word: Op(f"relax.{word}", y) for word in (*ELEMENTWISE, "sigmoid", "tanh")}
    forms["relu"] = Op("relax.nn.relu", y)
    for word in WITH_NUMBER:
        first = _NUMBER_FIRST.get(word)
        forms[word] = Op(first, number, y) if first else Op(f"relax.{word}", y, number)
    return Either(*[Tagged(form, name, word) for word, form in forms.items()])


def steps_of(match: Match, graph: Graph) -> tuple[Step, ...]:
    """What `match` found of an epilogue, in order."""
    steps = (
        Step("bias") if match.get("bias") is not None else None,
        Step("residual") if match.get("residual") is not None else None,
        step_of(match, graph),
        Step("residual") if match.get("late_residual") is not None else None,
        *[step_of(match, graph, f"tail{place}") for place in range(TAIL)],
    )
    return tuple(step for step in steps if step is not None)


def residual_problem(match: Match, shape: Shape | None) -> str | None:
    """Why what `match` found as a residual of a result of `shape` is none; None where it is one."""
    for name in ("residual", "late_residual"):
        residual = match.get(name)
        if residual is None:
            continue
        if shape_of(residual) != shape:
            return f"what is added has shape {shape_of(residual)}, want {shape}"
        if any(residual.same_as(var) for var in match.covered):
            return "what is added is computed by what it is added to"
    return None
