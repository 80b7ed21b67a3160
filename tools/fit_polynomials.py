"""Fit the coefficients of tilewright/targets/rules/vector_math.py: python tools/fit_polynomials.py

Each fit minimises the greatest weighted error max |w (P / Q - f)| by Lawson's iteration
(weighted least squares; points with a large error gain weight), linearised for a rational P / Q by
the last denominator (Sanathanan and Koerner 1963). The coefficients are rounded to float32 one by
one, from the constant term up, and the rest fitted again after each: rounded all at once they
would lose up to half of the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

POINTS = 1500
ITERATIONS = 400

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Fit:
    """P(g) / Q(g) ~ f(x), for x from `low` to `high` and g = `argument`(x).

    `weight`(x) makes the error in f one relative to the function that f is a part of. P and Q have
    the degrees `numerator` and `denominator`; Q begins with 1, and P with `constant` if given.
    """

    name: str
    function: Function
    weight: Function
    low: float
    high: float
    numerator: int
    denominator: int = 0
    argument: Function = lambda x: x
    constant: float | None = None


_erf = np.vectorize(math.erf, otypes=[np.float64])
_LN2_HALF = math.log(2) / 2

FITS = (
    # exp(r) = 1 + r + r^2 P(r), a little beyond |r| <= ln(2) / 2: the reduction rounds.
    Fit(
        "EXP",
        lambda r: (np.expm1(r) - r) / r**2,
        lambda r: r**2 / np.exp(r),
        -1.001 * _LN2_HALF,
        1.001 * _LN2_HALF,
        4,
        constant=0.5,
    ),
    # log(1 + f) = f - f^2 / 2 + f^3 P(f), between sqrt(1/2) and sqrt(2).
    Fit(
        "LOG",
        lambda f: (np.log1p(f) - f + f**2 / 2) / f**3,
        lambda f: f**3 / np.log1p(f),
        math.sqrt(0.5) - 1,
        math.sqrt(2) - 1,
        7,
    ),
    # log(1 + z) = z P(z), for z in [0, 1].
    Fit(
        "LOG1P",
        lambda z: np.log1p(z) / z,
        lambda z: z / np.log1p(z),
        0.0,
        1.0,
        9,
        constant=1.0,
    ),
    # tanh(x) = x (5/32 + P(x^2) / Q(x^2)), up to where it rounds to 1. Near there 5/32 is most of
    # the sum, and the rounding errors of P and Q weigh little: without it they come to 5 ULP.
    Fit(
        "TANH",
        lambda x: np.tanh(x) / x - 0.15625,
        lambda x: x / np.tanh(x),
        0.0,
        9.02,
        4,
        4,
        np.square,
        constant=0.84375,
    ),
    # erf(x) = x (1/4 + P(x^2) / Q(x^2)), likewise.
    Fit(
        "ERF",
        lambda x: _erf(x) / x - 0.25,
        lambda x: x / _erf(x),
        0.0,
        3.925,
        5,
        5,
        np.square,
    ),
)


def fit(task: Fit) -> tuple[list[float], list[float], float]:
    """Coefficients of P and Q (float32, constant term first) and the greatest weighted error."""
    angles = np.pi * (np.arange(POINTS) + 0.5) / POINTS
    x = (task.low + task.high) / 2 - (task.high - task.low) / 2 * np.cos(angles)
    known: dict[int, float] = {task.numerator + 1: 1.0}
    if task.constant is not None:
        known[0] = task.constant
    # P and Q side by side, lowest powers first.
    order = sorted(
        range(task.numerator + task.denominator + 2),
        key=lambda n: n if n <= task.numerator else n - task.numerator - 1,
    )
    for position in order:
        if position not in known:
            known[position] = float(np.float32(_minimax(task, x, known)[position]))
    coefficients = np.array([known[n] for n in range(len(order))])
    error = np.abs(_errors(task, x, coefficients)).max()
    split = task.numerator + 1
    return list(coefficients[:split]), list(coefficients[split:]), float(error)


def _minimax(task: Fit, x: np.ndarray, known: dict[int, float]) -> np.ndarray:
    """All coefficients, those in `known` as they are; the best seen over the iterations."""
    free = [n for n in range(task.numerator + task.denominator + 2) if n not in known]
    value, weight = task.function(x), task.weight(x)
    columns = _columns(task, x, value)
    right = -sum(columns[:, n] * coefficient for n, coefficient in known.items())
    # Columns of equal size: the powers of x^2 span ten decimal orders.
    scale = np.abs(columns[:, free]).max(axis=0)
    lawson, below = np.full(len(x), 1.0 / len(x)), np.ones(len(x))
    best, least = np.empty(0), math.inf
    for _ in range(ITERATIONS):
        rows = np.sqrt(lawson) * weight / below
        system = columns[:, free] / scale * rows[:, None]
        coefficients = np.zeros(columns.shape[1])
        for position, coefficient in known.items():
            coefficients[position] = coefficient
        coefficients[free] = np.linalg.lstsq(system, right * rows, rcond=None)[0] / scale
        errors = np.abs(_errors(task, x, coefficients))
        if errors.max() < least:
            best, least = coefficients, errors.max()
        lawson *= errors / errors.max() + 1e-3
        lawson /= lawson.sum()
        below = np.polyval(coefficients[: task.numerator : -1], task.argument(x))
    return best


def _columns(task: Fit, x: np.ndarray, value: np.ndarray) -> np.ndarray:
    """P - f Q = 0 as columns, one a coefficient."""
    powers = task.argument(x)[:, None] ** np.arange(max(task.numerator, task.denominator) + 1)
    above, below = powers[:, : task.numerator + 1], powers[:, : task.denominator + 1]
    return np.concatenate([above, -value[:, None] * below], axis=1)


def _errors(task: Fit, x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    above = np.polyval(coefficients[task.numerator :: -1], task.argument(x))
    below = np.polyval(coefficients[: task.numerator : -1], task.argument(x))
    return task.weight(x) * (above / below - task.function(x))


def main() -> None:
    """Print each fit as it stands in vector_math.py, with its error in units of 2^-24."""
    for task in FITS:
        above, below, error = fit(task)
        print(f"# {task.name}: greatest error {error * 2**24:.3f} x 2^-24")
        print(f"{task.name} = {_tuple(above)}")
        if task.denominator:
            print(f"{task.name}_BELOW = {_tuple(below)}")


def _tuple(coefficients: list[float]) -> str:
    return f"({', '.join(str(np.float32(c)) for c in coefficients)})"


if __name__ == "__main__":
    main()
