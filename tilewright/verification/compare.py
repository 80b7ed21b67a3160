"""Compare one output with its reference."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class OutputCheck:
    """How one output compares.

    `budget` and `error` are relative to the largest |reference|, or to `floor` where that is
    larger. `used` is error / budget; `worst` the index of the worst element, whose two values
    are `ours` and `reference`.
    """

    name: str
    passed: bool
    budget: float
    error: float
    used: float
    max_abs: float
    cosine: float
    worst: tuple[int, ...]
    ours: float
    reference: float
    floor: float = 0.0
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; what is not finite becomes None."""
        fields = {**asdict(self), "worst": list(self.worst)}
        numbers = {k: v for k, v in fields.items() if isinstance(v, float)}
        return {**fields, **{k: v if math.isfinite(v) else None for k, v in numbers.items()}}


def compare(
    name: str, ours: np.ndarray, reference: np.ndarray, budget: float, floor: float = 0.0
) -> OutputCheck:
    """Compare `ours` with `reference`; exact for integers and booleans.

    NaN must meet NaN and an infinity the same infinity; all other elements may differ by
    `budget` times the largest finite |reference|, or times `floor` where that is larger.
    """
    if ours.dtype != reference.dtype or ours.shape != reference.shape:
        problem = (
            f"is {ours.dtype}{list(ours.shape)}, want {reference.dtype}{list(reference.shape)}"
        )
        return _failed(name, budget, (), 0.0, 0.0, problem)
    if ours.size == 0:
        return OutputCheck(name, True, budget, 0.0, 0.0, 0.0, 1.0, (), 0.0, 0.0)
    if ours.dtype.kind not in "fc" and not _is_extended_float(ours.dtype):
        return _compare_exactly(name, ours, reference)
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    finite = np.isfinite(b)
    odd = np.where(finite, ~np.isfinite(a), ~((a == b) | (np.isnan(a) & np.isnan(b))))
    if odd.any():
        worst = tuple(int(i) for i in np.argwhere(odd)[0])
        problem = f"NaN or infinity in {int(odd.sum())} places where the other side differs"
        return _failed(name, budget, worst, a[worst], b[worst], problem)
    error = np.where(finite, np.abs(np.where(finite, a, 0) - np.where(finite, b, 0)), 0)
    worst = tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
    largest = float(np.abs(b[finite]).max(initial=0.0))
    scale = max(largest, floor) or float(np.finfo(np.float32).tiny)
    relative = float(error[worst]) / scale
    return OutputCheck(
        name=name,
        passed=relative <= budget,
        budget=budget,
        error=relative,
        used=relative / budget,
        max_abs=float(error[worst]),
        cosine=_cosine(a[finite], b[finite]),
        worst=worst,
        ours=float(a[worst]),
        reference=float(b[worst]),
        floor=floor,
    )


def _compare_exactly(name: str, ours: np.ndarray, reference: np.ndarray) -> OutputCheck:
    differs = ours != reference
    if not differs.any():
        return OutputCheck(name, True, 0.0, 0.0, 0.0, 0.0, 1.0, (), 0.0, 0.0)
    worst = tuple(int(i) for i in np.argwhere(differs)[0])
    problem = f"{int(differs.sum())} of {differs.size} elements differ, and must be equal"
    return _failed(name, 0.0, worst, float(ours[worst]), float(reference[worst]), problem)


def _failed(
    name: str, budget: float, worst: tuple[int, ...], ours: float, reference: float, problem: str
) -> OutputCheck:
    infinite = float("inf")
    return OutputCheck(
        name,
        False,
        budget,
        infinite,
        infinite,
        infinite,
        0.0,
        worst,
        ours,
        reference,
        problem=problem,
    )


def _is_extended_float(dtype: np.dtype) -> bool:
    return dtype.name.startswith(("bfloat", "float"))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / norm if norm else 1.0
