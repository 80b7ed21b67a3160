"""What is done to a result between the registers and memory: the steps of a spec, as TIR."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import tirx

from tilewright.ops import Step
from tilewright.ops.spec import Shape
from tilewright.targets.rules import vector_math
from tilewright.targets.rules.packing import padded_columns
from tilewright.targets.rules.rule import Given, GroupCall, Packed
from tilewright.targets.rules.tir import Flat, Index, Kernel, number
from tilewright.targets.rules.vector_math import like

ELEMENTWISE: dict[str, Callable[..., tirx.Expr]] = {
    "relu": lambda x: tirx.max(_zero(x), x),
    "clip": lambda x, low, high: tirx.min(like(x, high), tirx.max(like(x, low), x)),
    "leaky_relu": lambda x, alpha: tirx.Select(x > _zero(x), x, x * like(x, alpha)),
    "thresholded_relu": lambda x, alpha: tirx.Select(x > like(x, alpha), x, _zero(x)),
    "elu": vector_math.elu,
    "celu": lambda x, alpha, beta: tirx.Select(
        x > _zero(x), x, like(x, alpha) * vector_math.expm1(x / like(x, beta))
    ),
    "selu": lambda x, alpha, gamma: like(x, gamma) * vector_math.elu(x, alpha),
    "gelu": vector_math.gelu,
    "gelu_tanh": vector_math.gelu_tanh,
    "silu": vector_math.silu,
    "swish": lambda x, alpha: x * vector_math.sigmoid(like(x, alpha) * x),
    "sigmoid": vector_math.sigmoid,
    "hard_sigmoid": lambda x, alpha, beta: _hard_sigmoid(x, alpha, beta),
    "hard_swish": lambda x, alpha, beta: x * _hard_sigmoid(x, alpha, beta),
    "softplus": vector_math.softplus,
    "mish": vector_math.mish,
    "softsign": lambda x: x / (like(x, 1.0) + tirx.abs(x)),
    "tanh": vector_math.tanh,
    "exp": vector_math.exp,
    "log": vector_math.log,
    "erf": vector_math.erf,
    "abs": tirx.abs,
    "negative": lambda x: _zero(x) - x,
    "square": lambda x: x * x,
    "sqrt": tirx.sqrt,
    "add": lambda x, n: x + like(x, n),
    "subtract": lambda x, n: x - like(x, n),
    "subtract_from": lambda x, n: like(x, n) - x,
    "multiply": lambda x, n: x * like(x, n),
    "divide": lambda x, n: x / like(x, n),
    "divide_into": lambda x, n: like(x, n) / x,
}
# Steps that read an array, and whether it has one value a column (else it has the result's
# shape). `Epilogue` takes one operand for each, in order. "gate" is the factor of a gated layer.
_READING: dict[str, tuple[bool, Callable[..., tirx.Expr]]] = {
    "bias": (True, lambda x, b: x + b),
    "residual": (False, lambda x, r: x + r),
    "layer_scale": (True, lambda x, s: x * s),
    "prelu": (True, lambda x, slope: tirx.Select(x > _zero(x), x, x * slope)),
    "gate": (False, lambda x, g: x * g),
}


class Epilogue:
    """The steps of a spec with their operands, applied to vectors of the result.

    A sum may start from its bias instead of 0, from `begin`; `finish` is what is left to do then.
    """

    def __init__(self, steps: Sequence[Step], operands: Sequence[Flat]) -> None:
        self._steps = tuple(steps)
        self._operands = tuple(operands)
        names = [step.name for step in steps]
        # While a residual is on its way there is time to add the bias: a sum that starts from it
        # made ResNet-50's layers with a residual 3% slower.
        self._begun = int(names[:1] == ["bias"] and "residual" not in names)

    @staticmethod
    def refuses(steps: Sequence[Step], columns: int | None) -> str | None:
        """Why these steps cannot be done in a store; None where they can.

        `columns`: the result's axis, from the end, that the columns are; None where the kernel is
        given no slopes.
        """
        for step in steps:
            if step.name not in ELEMENTWISE and step.name not in _READING:
                return f"the step {step} is not done in a store"
            if step.name == "prelu" and step.parameters[1] != 1:
                return f"the step {step} has a negative slope"
            if step.name == "prelu" and (columns is None or step.parameters[0] not in (0, columns)):
                return f"the slopes of the step {step} are not one per column"
        return None

    def __call__(self, value: tirx.Expr, place: Index, column: Index, lanes: int) -> tirx.Expr:
        """`value` after all steps: `place` in the whole result, `column` among its columns."""
        if self._begun:
            value = value + self.begin(column, lanes)
        return self.finish(value, place, column, lanes)

    def begin(self, column: Index, lanes: int) -> tirx.Expr:
        """What the sums of `lanes` columns from `column` on start from."""
        if self._begun:
            return self._operands[0].load(column, lanes)
        return number(0.0, "float32", lanes)

    def finish(self, value: tirx.Expr, place: Index, column: Index, lanes: int) -> tirx.Expr:
        """`value`, a sum that started from `begin`, after all steps."""
        operands = iter(self._operands[self._begun :])
        for step in self._steps[self._begun :]:
            if step.name in _READING:
                per_column, apply = _READING[step.name]
                operand = next(operands)
                value = apply(value, operand.load(column if per_column else place, lanes))
            else:
                value = _with_name(value, lambda x, s=step: ELEMENTWISE[s.name](x, *s.parameters))
        return value


def operands_of(
    steps: tuple[Step, ...],
    call: GroupCall,
    bias: str = "bias",
    residuals: tuple[str, ...] = ("residual", "late_residual"),
    prefix: str = "",
) -> tuple[np.ndarray | Given, ...]:
    """The operands of `steps`: arrays of the group, or Given residuals in order.

    `prefix` stands before the names of a group that holds several convolutions.
    """
    found: list[np.ndarray | Given] = []
    left = iter([role for role in residuals if role in call.roles])
    for step in steps:
        if step.name == "bias":
            found.append(call.get(prefix + bias).array)
        elif step.name == "layer_scale":
            found.append(call.get("layer_scale").array)
        elif step.name == "residual":
            found.append(Given(next(left)))
        elif step.name == "prelu":
            slope = next(r for r in call.roles if r.startswith(f"{prefix}activation."))
            found.append(call.get(slope).array)
    return tuple(found)


def epilogue_operands(
    kernel: Kernel,
    arrays: Sequence[np.ndarray | Given | int],
    n: int,
    shape: Shape,
    lanes: int,
) -> tuple[list[Flat], tuple[Packed | Given | int, ...]]:
    """Parameters of `kernel` for the operands of steps, and what is passed for them.

    An array has one value per column and is padded, so that a vector may begin at any column; the
    others have `shape`.
    """
    flats: list[Flat] = []
    inputs: list[Packed | Given | int] = []
    for place, array in enumerate(arrays):
        if isinstance(array, np.ndarray):
            padded = padded_columns(array, n, lanes)
            flats.append(kernel.param(padded.shape, "float32", f"c{place}"))
            inputs.append(padded)
        else:
            flats.append(kernel.param(shape, "float32", f"r{place}"))
            inputs.append(array)
    return flats, tuple(inputs)


def _with_name(value: tirx.Expr, use: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
    """`use(value)` with `value` computed once, however often it is read."""
    var = tirx.Var("v", value.ty)
    return tirx.Let(var, value, use(var))


def _hard_sigmoid(x: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    line = x * like(x, alpha) + like(x, beta)
    return tirx.min(like(x, 1.0), tirx.max(_zero(x), line))


def _zero(x: tirx.Expr) -> tirx.Expr:
    return like(x, 0.0)
