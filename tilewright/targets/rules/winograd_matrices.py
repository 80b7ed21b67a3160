"""The matrices of Winograd convolution, and products with them as TIR.

A 1-D convolution of `size` outputs with `taps` taps needs size + taps - 1 multiplications:

    y = AT ((G w) * (BT x))

`size` + `taps` - 2 points and infinity give the matrices (Lavin and Gray 2016, arXiv:1509.09308,
section 4; Toom-Cook); in two dimensions they are applied to both axes. The points decide the
error. Symmetric ones (a, -a) let two rows share their work, dyadic ones make every coefficient of
AT and BT exact, and 3/4 and 3/2 err four times less than the usual 1 and 2: the quotient of the
two decides, and both are close to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.polynomial import polynomial
from tvm import tirx
from tvm.tirx import Stmt

TAPS = 3
# Outputs of a tile along one axis -> points.
POINTS: dict[int, tuple[Fraction, ...]] = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
}


@dataclass(frozen=True)
class Transforms:
    """The matrices for tiles of `size` outputs: inputs `bt`, weights `g`, outputs `at`, float64."""

    size: int
    bt: np.ndarray
    g: np.ndarray
    at: np.ndarray

    @property
    def edge(self) -> int:
        """How many inputs a tile reads along one axis; its square is the number of products."""
        return self.size + TAPS - 1


def transforms(size: int) -> Transforms:
    """F(size x size, 3 x 3)."""
    points = [float(p) for p in POINTS[size]]
    edge = size + TAPS - 1
    bt, g, at = np.zeros((edge, edge)), np.zeros((edge, TAPS)), np.zeros((size, edge))
    for j, point in enumerate(points):
        others = points[:j] + points[j + 1 :]
        bt[j, : edge - 1] = polynomial.polyfromroots(others)
        g[j] = point ** np.arange(TAPS) / np.prod([point - other for other in others])
        at[:, j] = point ** np.arange(size)
    bt[-1] = polynomial.polyfromroots(points)
    g[-1, -1] = at[-1, -1] = 1.0
    return Transforms(size, bt, g, at)


def transformed_weights(w: np.ndarray, t: Transforms) -> np.ndarray:
    """W [n, c, 3, 3] -> [edge * edge, c, n]: one matrix for each product, in w's dtype."""
    n, c = w.shape[:2]
    # G w G^T of each pair of channels, with w as a vector: one matrix product for all of them.
    wide = np.kron(t.g, t.g) @ w.transpose(2, 3, 1, 0).reshape(TAPS**2, c * n).astype(np.float64)
    return wide.astype(w.dtype).reshape(t.edge**2, c, n)


def combine(
    matrix: np.ndarray, values: Sequence[tirx.Expr | None]
) -> tuple[list[Stmt], list[tirx.Expr | None]]:
    """`matrix` times `values`: statements that come first, and one expression a row.

    None is a value that is 0. Neighbouring rows, or columns, that are equal up to signs share
    what they have in common.
    """
    steps: list[Stmt] = []

    def named(value: tirx.Expr | None) -> tirx.Expr | None:
        if value is None or isinstance(value, tirx.Var):
            return value
        var = tirx.Var("t", value.ty)
        steps.append(tirx.Bind(var, value))
        return var

    matrix, values = matrix.copy(), [named(value) for value in values]
    for j in _pairs(matrix.T):
        left, right = values[j], values[j + 1]
        same = matrix[:, j] == matrix[:, j + 1]
        total, difference = named(_sum([(1.0, left), (1.0, right)])), None
        if not same.all():
            difference = named(_sum([(1.0, left), (-1.0, right)]))
        # The sum stands in column j, the difference in the next: a row uses one of them.
        matrix[:, j], matrix[:, j + 1] = matrix[:, j] * same, matrix[:, j] * ~same
        values[j], values[j + 1] = total, difference
    paired = _pairs(matrix)
    rows: list[tirx.Expr | None] = []
    for i, row in enumerate(matrix):
        if i - 1 in paired:
            continue
        if i not in paired:
            rows.append(_sum(list(zip(row, values, strict=True))))
            continue
        same = row == matrix[i + 1]
        even = named(_sum(list(zip(row * same, values, strict=True))))
        odd = named(_sum(list(zip(row * ~same, values, strict=True))))
        rows += [_sum([(1.0, even), (1.0, odd)]), _sum([(1.0, even), (-1.0, odd)])]
    return steps, [named(row) for row in rows]


def _pairs(matrix: np.ndarray) -> list[int]:
    """The rows that are equal to the next one up to signs, no row in two pairs."""
    found: list[int] = []
    for i in range(len(matrix) - 1):
        if i - 1 not in found and np.array_equal(abs(matrix[i]), abs(matrix[i + 1])):
            found.append(i)
    return found


def _sum(terms: list[tuple[float, tirx.Expr | None]]) -> tirx.Expr | None:
    """The sum of factor * value over all terms that are not 0; None when none is left."""
    total: tirx.Expr | None = None
    # Factors of 1 first: what follows is a multiply-add each.
    left = [(f, x) for f, x in terms if f and x is not None]
    for factor, x in sorted(left, key=lambda term: (term[0] != 1, term[0] != -1)):
        if total is None:
            total = x if factor == 1 else x * float(factor)
        elif factor == 1:
            total = total + x
        elif factor == -1:
            total = total - x
        else:
            total = total + x * float(factor)
    return total
