"""How far an output may be from the truth: as far as ONNX Runtime's own error goes, a few times.

The truth is the model in double precision (reference.py). With e the error of ONNX Runtime against
it, ours may be up to

    FACTOR * e + ULPS * eps          (WINOGRAD_FACTOR where Winograd convolutions may be chosen)

all relative to the largest finite |truth| of the output, with eps the distance from 1 to the next
number of the output's type. ONNX Runtime's error on one example may be small by luck, so e is the
largest of the examples so far, and before any is judged, one of each kind of values is measured.
An error that was seen on a smaller output grows with the size of the output, but GROWTH times at
most: a sigmoid that is off by 1e-7 everywhere is not off by half where it comes to 1.

NaN, infinities and denormals, the same on both sides: where ONNX Runtime has a finite number, so
must we; where it has a NaN or an infinity, we must have the same, or what the truth has. Results
below the smallest normal number of their type are as good as zero.

An error of ONNX Runtime far beyond what rounding explains (budget.py) is no yardstick: then one of
the three is wrong, and ours must agree with one of the others within that budget. Some inputs make
rounding errors larger on their way (differences of nearly equal numbers, say): how much, is seen
from how far the truth moves when each number of the inputs and of what is between, and each sum
inside an operator, does by one rounding error, and rounding then explains as many times more
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 1.6; Vignes 1993, "A
stochastic arithmetic for reliable scientific computation"). Where that alone is more than rounding
explains, the output is little but rounding errors, and ours may be a few times as far away, as if
ONNX Runtime's were.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from tilewright.verification.budget import Budget

FACTOR = 4.0
# Tiles of 4x4 err two to three times as much as a plain sum (targets/rules/winograd_matrices.py).
WINOGRAD_FACTOR = 8.0
ULPS = 2.0
# Times by which an error that was seen may grow with the size of the output.
GROWTH = 32.0
# Times the budget of rounding: from here on an error of ONNX Runtime is a mistake and not rounding.
DOUBT = 32.0


@dataclass(frozen=True)
class Verdict:
    """How one output of one example compares. Errors are relative to `scale`.

    `error` is ours against the truth, `theirs` ONNX Runtime's; where the truth was not needed,
    `error` is ours against ONNX Runtime and `theirs` what it was allowed to be. `used` is
    error / allowed, `ulps` the error in units of eps; `sqnr` is in dB. `worst` is the index of the
    worst element, whose values are `ours`, `theirs_value` and, where it is known, `truth`.
    """

    name: str
    passed: bool
    error: float = 0.0
    theirs: float = 0.0
    allowed: float = 0.0
    ulps: float = 0.0
    cosine: float = 1.0
    sqnr: float = math.inf
    scale: float = 0.0
    worst: tuple[int, ...] = ()
    ours: float = 0.0
    theirs_value: float = 0.0
    truth: float | None = None
    problem: str | None = None
    note: str | None = None

    @property
    def used(self) -> float:
        """The share of the allowance that was used."""
        if self.allowed:
            return self.error / self.allowed
        return 0.0 if self.passed else math.inf

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; what is not finite becomes None."""
        fields = {**asdict(self), "worst": list(self.worst), "used": self.used}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in fields.items()
        }


@dataclass
class Tolerance:
    """Judges outputs, and remembers how much ONNX Runtime errs."""

    factor: float
    # Errors of ONNX Runtime so far, by output: each in units of the output, and the output's scale.
    seen: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def learn(self, name: str, theirs: np.ndarray, truth: np.ndarray, budget: Budget) -> None:
        """Note the error of `theirs`, an output, unless it is too large for rounding."""
        if theirs.size and _is_float(theirs.dtype) and theirs.shape == truth.shape:
            t = _wide(truth)
            found = _measured(name, _wide(theirs), t, t, math.inf, theirs.dtype)
            if found.error <= DOUBT * _relative(budget, t):
                self.seen.setdefault(name, []).append((found.error * found.scale, found.scale))

    def usual(self, name: str, values: np.ndarray, dtype: np.dtype) -> float:
        """The largest error of ONNX Runtime so far, relative to the scale of `values`."""
        scale = scale_of(values[np.isfinite(values)], dtype)
        errors = (error * min(scale / was, GROWTH) for error, was in self.seen.get(name, ()))
        return max(errors, default=0.0) / scale

    def passes_at_sight(self, name: str, ours: np.ndarray, theirs: np.ndarray) -> Verdict | None:
        """A verdict that needs no truth, or None when only the truth can tell.

        |ours - truth| <= |ours - theirs| + |theirs - truth|: an output this near to ONNX
        Runtime's is within the allowance whatever the truth is.
        """
        if _mismatch(ours, theirs):
            return None
        if not _is_float(ours.dtype):
            return Verdict(name, True) if np.array_equal(ours, theirs) else None
        if name not in self.seen and ours.size:
            return None
        a, b = _wide(ours), _wide(theirs)
        if _classes_differ(a, b).any():
            return None
        usual = self.usual(name, b, ours.dtype)
        allowed = (self.factor - 1) * usual + ULPS * _eps(ours.dtype)
        verdict = _measured(name, a, b, b, allowed, ours.dtype)
        return verdict if verdict.passed else None

    def judge(
        self,
        name: str,
        ours: np.ndarray,
        theirs: np.ndarray,
        truth: np.ndarray,
        budget: Budget,
        moved: Callable[[str], float] = lambda _name: 0.0,
    ) -> Verdict:
        """Compare `ours` with the truth, allowing a few times the error of `theirs`.

        `budget` is the error that rounding explains, unless it is amplified on the way to this
        output: `moved` says how far one rounding of every tensor moves it, relative to its largest
        value, and is asked when ONNX Runtime, or ours, is in doubt.
        """
        if problem := _mismatch(ours, theirs):
            return Verdict(name, False, problem=problem)
        if truth.shape != ours.shape:
            return Verdict(name, False, problem=f"the truth has shape {list(truth.shape)}")
        if not _is_float(ours.dtype):
            return _judge_exactly(name, ours, theirs, truth)
        a, b, t = _wide(ours), _wide(theirs), _wide(truth)
        strange = _classes_differ(a, b) & _classes_differ(a, _rounded(t, ours.dtype))
        if strange.any():
            return _strange(name, a, b, t, strange)
        error = _measured(name, b, t, b, math.inf, ours.dtype).error
        rounding = explained = _relative(budget, t)
        if error > DOUBT * rounding:
            explained *= max(1.0, moved(name) / (_eps(ours.dtype) / 2))
        if error > DOUBT * explained:
            return _in_doubt(name, a, b, t, explained, ours.dtype, error)
        # What is amplified here says nothing of other inputs.
        self.learn(name, theirs, truth, budget)

        def compared(usual: float) -> Verdict:
            allowed = self.factor * usual + ULPS * _eps(ours.dtype)
            return _measured(name, a, t, b, allowed, ours.dtype, theirs_error=error, truth=t)

        verdict = compared(max(error, self.usual(name, t, ours.dtype)))
        if verdict.passed or (noise := moved(name)) <= rounding:
            return verdict
        note = f"{name} is little but rounding errors: one of every tensor moves it by {noise:.1e}"
        return replace(compared(max(error, noise)), note=note)

    @staticmethod
    def of_chance(name: str, ours: np.ndarray, theirs: np.ndarray) -> Verdict:
        """Compare type and shape, which is all there is of numbers that are drawn at random."""
        if problem := _mismatch(ours, theirs):
            return Verdict(name, False, problem=problem)
        return Verdict(name, True, note=f"{name} depends on random numbers: not compared")

    def without_truth(
        self, name: str, ours: np.ndarray, theirs: np.ndarray, budget: Budget
    ) -> Verdict:
        """Compare `ours` with ONNX Runtime's alone, within the error that rounding explains."""
        return self.within(name, ours, theirs, _relative(budget, _wide(theirs)))

    @staticmethod
    def within(name: str, ours: np.ndarray, theirs: np.ndarray, allowed: float) -> Verdict:
        """Compare `ours` with `theirs`: floats may differ by `allowed` of the largest |theirs|."""
        if problem := _mismatch(ours, theirs):
            return Verdict(name, False, problem=problem)
        if not _is_float(ours.dtype):
            return _judge_exactly(name, ours, theirs, theirs)
        a, b = _wide(ours), _wide(theirs)
        strange = _classes_differ(a, b)
        if strange.any():
            return _strange(name, a, b, b, strange)
        return _measured(name, a, b, b, allowed, ours.dtype)


def scale_of(values: np.ndarray, dtype: np.dtype) -> float:
    """What errors of an output of `dtype` are relative to: the largest of its finite values."""
    return max(float(np.abs(values).max(initial=0.0)), float(ml_dtypes.finfo(dtype).tiny))


def _relative(budget: Budget, wanted: np.ndarray) -> float:
    """The budget relative to the largest |wanted|, above which its floor may lie."""
    largest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
    return budget.relative * max(1.0, budget.floor / largest if largest else 1.0)


def _in_doubt(
    name: str,
    ours: np.ndarray,
    theirs: np.ndarray,
    truth: np.ndarray,
    rounding: float,
    dtype: np.dtype,
    error: float,
) -> Verdict:
    """The verdict when ONNX Runtime and the truth are too far apart for rounding."""
    with_truth = _measured(
        name, ours, truth, theirs, rounding, dtype, theirs_error=error, truth=truth
    )
    if with_truth.passed:
        note = f"ONNX Runtime is off by {error:.1e} of the largest value; ours is right"
        return replace(with_truth, note=note)
    with_theirs = _measured(name, ours, theirs, theirs, rounding, dtype, truth=truth)
    note = (
        f"ours and ONNX Runtime's are {error:.1e} of the largest value away from the model in "
        "double precision: it amplifies rounding errors on this input, or the reference is wrong"
    )
    return replace(with_theirs, note=note) if with_theirs.passed else with_truth


def _measured(
    name: str,
    ours: np.ndarray,
    wanted: np.ndarray,
    onnxruntime: np.ndarray,
    allowed: float,
    dtype: np.dtype,
    *,
    theirs_error: float | None = None,
    truth: np.ndarray | None = None,
) -> Verdict:
    """The error of `ours` against `wanted` where both are finite."""
    finite = np.isfinite(wanted) & np.isfinite(ours)
    if not finite.any():
        return Verdict(name, True, allowed=allowed if math.isfinite(allowed) else 0.0)
    off = np.where(finite, np.abs(np.where(finite, ours, 0) - np.where(finite, wanted, 0)), 0)
    worst = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
    scale = scale_of(wanted[finite], dtype)
    error = float(off[worst]) / scale
    power = float(np.square(wanted[finite] / scale).sum())
    noise = float(np.square(off[finite] / scale).sum())
    return Verdict(
        name,
        passed=error <= allowed,
        error=error,
        theirs=allowed if theirs_error is None else theirs_error,
        allowed=allowed,
        ulps=error / _eps(dtype),
        cosine=_cosine(ours[finite] / scale, wanted[finite] / scale),
        sqnr=10 * math.log10(power / noise) if noise and power else math.inf,
        scale=scale,
        worst=worst,
        ours=float(ours[worst]),
        theirs_value=float(onnxruntime[worst]),
        truth=None if truth is None else float(truth[worst]),
    )


def _judge_exactly(name: str, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray) -> Verdict:
    differs = ours != theirs
    if not differs.any():
        return Verdict(name, True)
    worst = tuple(int(i) for i in np.argwhere(differs)[0])
    values = {"ours": float(ours[worst]), "theirs_value": float(theirs[worst])}
    values["truth"] = float(truth[worst])
    if truth is not theirs and np.array_equal(ours, truth.astype(ours.dtype)):
        note = f"ONNX Runtime is wrong in {int(differs.sum())} of {differs.size} elements"
        return Verdict(name, True, worst=worst, note=note, **values)
    problem = f"{int(differs.sum())} of {differs.size} elements differ, and must be equal"
    return Verdict(name, False, worst=worst, problem=problem, **values)


def _strange(
    name: str, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray, places: np.ndarray
) -> Verdict:
    worst = tuple(int(i) for i in np.argwhere(places)[0])
    problem = f"NaN or infinity in {int(places.sum())} places where the other side differs"
    return Verdict(
        name,
        False,
        worst=worst,
        ours=float(ours[worst]),
        theirs_value=float(theirs[worst]),
        truth=float(truth[worst]),
        problem=problem,
    )


def _mismatch(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    if ours.dtype == theirs.dtype and ours.shape == theirs.shape:
        return None
    return f"is {ours.dtype}{list(ours.shape)}, want {theirs.dtype}{list(theirs.shape)}"


def _classes_differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where one is a NaN or an infinity and the other is something else."""
    same = (np.isfinite(a) & np.isfinite(b)) | (a == b) | (np.isnan(a) & np.isnan(b))
    return ~same


def _rounded(truth: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        return _wide(truth.astype(dtype))


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def _eps(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).eps)


def _is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / norm if norm else 1.0
