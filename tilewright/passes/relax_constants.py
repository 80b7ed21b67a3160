"""Reading and making Relax constants with numpy."""

from __future__ import annotations

import math

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GenericConst


def is_constant(expr: relax.Expr) -> bool:
    """Whether `expr` is a tensor literal."""
    return isinstance(expr, GenericConst)


def array_of(expr: relax.Expr) -> np.ndarray:
    """The values of a constant; a view where TVM allows it."""
    return expr.value.numpy()


def constant(array: np.ndarray, dtype: str | None = None) -> relax.Expr:
    """A tensor literal with the values of `array`."""
    array = np.asarray(array, dtype, order="C")
    return relax.const(tvm.runtime.tensor(array), str(array.dtype))


def shortest(value: float) -> float:
    """The shortest decimal of the same float32: 0.2, and 1 / 6 however it was written."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    exact = isinstance(value, int) or not math.isclose(single, value, rel_tol=1e-7)
    return float(value if exact else str(single))
