"""What is done to a result between the registers and memory: the steps of a spec, as TIR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx

from tilewright.ops import Step
from tilewright.targets.rules import vector_math
from tilewright.targets.rules.tir import Flat, Index, number

# (row, column, lanes) of the result -> where the value stands in an operand of its shape.
At = Callable[[Index, Index], Index]


@dataclass(frozen=True)
class Operand:
    """An array that a step reads: `per_column` one value a column, else of the result's shape.

    One of a single element (`scalar`) is the same for all.
    """

    values: Flat
    scalar: bool = False


ELEMENTWISE: dict[str, Callable[..., tirx.Expr]] = {
    "relu": lambda x: tirx.max(_zero(x), x),
    "clip": lambda x, low, high: tirx.min(_like(x, high), tirx.max(_like(x, low), x)),
    "leaky_relu": lambda x, alpha: tirx.Select(x > _zero(x), x, x * _like(x, alpha)),
    "elu": lambda x, alpha: tirx.Select(
        x > _zero(x), x, _like(x, alpha) * (vector_math.exp(x) - _like(x, 1.0))
    ),
    "gelu": vector_math.gelu,
    "gelu_tanh": vector_math.gelu_tanh,
    "silu": vector_math.silu,
    "sigmoid": vector_math.sigmoid,
    "hard_sigmoid": lambda x, alpha, beta: _hard_sigmoid(x, alpha, beta),
    "hard_swish": lambda x, alpha, beta: x * _hard_sigmoid(x, alpha, beta),
    "softplus": vector_math.softplus,
    "mish": vector_math.mish,
    "tanh": vector_math.tanh,
}
# Steps that read an array; `Epilogue` takes one operand for each, in order.
_ADDED = ("bias", "residual")


class Epilogue:
    """The steps of a spec with their operands, applied to vectors of the result."""

    def __init__(self, steps: Sequence[Step], operands: Sequence[Operand]) -> None:
        self._steps = tuple(steps)
        self._operands = tuple(operands)

    @staticmethod
    def refuses(steps: Sequence[Step]) -> str | None:
        """Why these steps cannot be done in a store; None where they can."""
        for step in steps:
            if step.name not in ELEMENTWISE and step.name not in _ADDED:
                return f"the step {step} is not done in a store"
        return None

    def __call__(self, value: tirx.Expr, place: Index, column: Index, lanes: int) -> tirx.Expr:
        """`value` after all steps: `place` in the whole result, `column` among its columns."""
        operands = iter(self._operands)
        for step in self._steps:
            if step.name in _ADDED:
                operand = next(operands)
                where = place if step.name == "residual" else column
                value = value + (
                    operand.values.splat(0, lanes)
                    if operand.scalar
                    else operand.values.load(where, lanes)
                )
            else:
                value = ELEMENTWISE[step.name](value, *step.parameters)
        return value


def _hard_sigmoid(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    line = x * _like(x, alpha) + _like(x, beta)
    return tirx.min(_like(x, 1.0), tirx.max(_zero(x), line))


def _zero(x: tirx.Expr) -> tirx.Expr:
    return _like(x, 0.0)


def _like(x: tirx.Expr, value: float) -> tirx.Expr:
    """`value` in every lane of something like `x`."""
    dtype, _, lanes = str(x.ty.dtype if hasattr(x, "ty") else x.dtype).partition("x")
    return number(value, dtype, int(lanes or 1))
