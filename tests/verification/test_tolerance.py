from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tilewright.verification.budget import Budget
from tilewright.verification.tolerance import FACTOR, GROWTH, ULPS, Tolerance

B = np.float32([[100, -50, 1e-3], [0, 2, 3]])
EPS = float(np.finfo(np.float32).eps)
# What rounding explains: far above the errors of these tests, so that nothing is in doubt.
BUDGET = Budget(1e-2)


def _within(ours, reference=B, allowed=1e-5):
    return Tolerance.within("y", np.asarray(ours), np.asarray(reference), allowed)


def _off(array, error, place=(0, 0)):
    """`array` with an error of `error` times its largest value in one place."""
    changed = np.array(array, np.float64)
    changed[place] += error * np.abs(array).max()
    return changed.astype(np.asarray(array).dtype)


class TestWithin:
    """Compared with a reference alone."""

    def test_equal_arrays_use_nothing(self):
        found = _within(B.copy())
        assert (found.passed, found.error, found.used, found.sqnr) == (True, 0.0, 0.0, np.inf)
        assert found.cosine == pytest.approx(1)

    def test_an_error_is_relative_to_the_largest_value(self):
        for error, passed in ((0.9e-5, True), (1.1e-5, False)):
            found = _within(_off(B.astype(np.float64), error, (1, 0)), B.astype(np.float64))
            assert found.passed == passed and found.worst == (1, 0) and found.scale == 100
            assert found.used == pytest.approx(error / 1e-5)
            assert found.ulps == pytest.approx(error / np.finfo(np.float64).eps)

    def test_zeros_must_be_zeros_but_for_denormals(self):
        zeros = np.zeros(3, np.float32)
        assert _within(zeros, zeros).passed
        assert not _within(zeros + np.float32(1e-30), zeros).passed
        assert _within(zeros + np.float32(1e-43), zeros).passed

    @pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
    def test_integers_and_booleans_must_be_equal(self, dtype):
        reference = np.array([0, 1, 1, 0]).astype(dtype)
        assert _within(reference.copy(), reference, 1.0).passed
        ours = reference.copy()
        ours[2] = 0
        found = _within(ours, reference, 1.0)
        assert not found.passed and found.worst == (2,)
        assert "1 of 4 elements differ" in found.problem

    def test_large_integers_are_not_compared_as_floats(self):
        a = np.array([2**53], np.int64)
        assert not _within(a + 1, a).passed

    def test_other_shapes_and_types_fail(self):
        found = _within(B.T, B)
        assert not found.passed and "is float32[3, 2], want float32[2, 3]" in found.problem
        assert not _within(B.astype(np.float64), B).passed

    def test_nothing_equals_nothing_and_scalars_are_arrays(self):
        empty = np.zeros((0, 3), np.float32)
        assert _within(empty, empty).passed
        assert _within(np.float32(2), np.float32(2)).passed
        assert not _within(np.float32(2.1), np.float32(2)).passed

    @pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
    def test_narrow_floats_are_floats(self, dtype):
        reference = np.array([1, 2, 4], dtype)
        ours = reference.copy()
        ours[0] += dtype(0.25)
        assert _within(ours, reference, 0.1).passed
        assert not _within(ours, reference, 0.05).passed

    def test_the_verdict_is_json(self):
        for ours in (B, B + 1, B.T, np.full_like(B, np.nan)):
            json.dumps(_within(ours).to_dict(), allow_nan=False)

    @given(
        arrays.arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)),
        st.floats(1e-7, 1e-2),
    )
    def test_passes_exactly_within_what_is_allowed(self, reference, allowed):
        exact = reference.astype(np.float64)
        if np.abs(exact).max() < 1e-30:
            return
        for factor, passed in ((0.99, True), (1.01, False)):
            ours = _off(exact, factor * allowed, (1, 2))
            assert _within(ours, exact, allowed).passed == passed


ODD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("value", ODD)
def test_nan_and_infinity_must_be_where_onnxruntime_has_them(value):
    reference = B.copy()
    reference[0, 1] = value
    assert _within(reference.copy(), reference).passed
    found = _within(B, reference)
    assert not found.passed and found.worst == (0, 1) and "1 places" in found.problem
    assert not _within(reference, B).passed
    for other in ODD:
        ours = reference.copy()
        ours[0, 1] = other
        assert _within(ours, reference).passed == np.array_equal(ours, reference, equal_nan=True)


def test_an_error_beside_an_infinity_is_still_seen():
    reference = np.float32([np.inf, 1, 2])
    assert not _within(np.float32([np.inf, 1, 2.1]), reference).passed
    assert _within(np.float32([np.nan] * 3), np.float32([np.nan] * 3)).passed


class TestJudge:
    """Compared with the truth, allowing for what ONNX Runtime errs."""

    TRUTH = B.astype(np.float64)

    def _judge(self, ours, theirs, truth=TRUTH, factor=FACTOR, budget=BUDGET):
        return Tolerance(factor).judge("y", ours, theirs, truth, budget)

    def test_allows_a_few_times_the_error_of_onnxruntime(self):
        theirs = _off(B, 1e-4)
        error = abs(float(theirs[0, 0]) - 100) / 100
        allowed = FACTOR * error + ULPS * EPS
        for share, passed in ((0.98, True), (1.02, False)):
            found = self._judge(_off(B, -allowed * share, (1, 1)), theirs)
            assert found.passed == passed and found.allowed == pytest.approx(allowed)
            assert found.theirs == pytest.approx(error) and found.truth == self.TRUTH[1, 1]

    def test_the_error_of_earlier_examples_counts(self):
        tolerance = Tolerance(FACTOR)
        tolerance.learn("y", _off(B, 1e-4), self.TRUTH, BUDGET)
        assert tolerance.judge("y", _off(B, 3e-4), B, self.TRUTH, BUDGET).passed
        assert not Tolerance(FACTOR).judge("y", _off(B, 3e-4), B, self.TRUTH, BUDGET).passed
        tolerance.learn("z", B, self.TRUTH, BUDGET)
        assert not tolerance.judge("z", _off(B, 3e-4), B, self.TRUTH, BUDGET).passed

    def test_an_error_on_much_smaller_outputs_is_not_relative_to_them(self):
        """A sigmoid that is off by 1e-7 wherever it is nearly 0."""
        small, tolerance = 1e-6 * self.TRUTH, Tolerance(FACTOR)
        theirs = small.astype("float32")
        theirs[0, 0] += 1e-7
        tolerance.learn("y", theirs, small, BUDGET)
        known = tolerance.usual("y", small, theirs.dtype)
        assert known == pytest.approx(1e-7 / 1e-4, rel=1e-2)
        assert tolerance.usual("y", 8 * small, theirs.dtype) == pytest.approx(known)
        large = tolerance.usual("y", self.TRUTH, theirs.dtype)
        assert large == pytest.approx(GROWTH * 1e-7 / 100, rel=1e-2)
        assert not tolerance.judge("y", _off(B, 1e-4), B, self.TRUTH, BUDGET).passed

    def test_an_error_beyond_rounding_is_no_yardstick(self):
        tolerance = Tolerance(FACTOR)
        tolerance.learn("y", _off(B, 0.5), self.TRUTH, Budget(1e-5))
        assert tolerance.seen == {}

    def test_says_so_when_onnxruntime_is_the_one_that_is_wrong(self):
        found = self._judge(B, _off(B, 0.5), budget=Budget(1e-5))
        assert found.passed and "ONNX Runtime is off by 5.0e-01" in found.note
        assert not self._judge(_off(B, 0.3), _off(B, 0.5), budget=Budget(1e-5)).passed
        counts = np.array([3, 4])
        found = self._judge(counts, np.array([3, 5]), counts)
        assert found.passed and "ONNX Runtime is wrong in 1 of 2" in found.note

    def test_what_the_input_amplifies_is_rounding(self):
        truth = B.astype(np.float64)
        ours, theirs = _off(truth, 1e-3), _off(truth, 2e-3)
        unit = np.finfo(np.float64).eps / 2
        judged = [
            Tolerance(FACTOR).judge("y", ours, theirs, truth, Budget(1e-6), lambda _, n=n: n)
            for n in (unit, 100 * unit)
        ]
        assert [found.passed for found in judged] == [False, True]
        tolerance = Tolerance(FACTOR)
        tolerance.judge("y", ours, theirs, truth, Budget(1e-6), lambda _: 100 * unit)
        assert "y" not in tolerance.seen, "other inputs do not amplify"

    def test_little_but_rounding_errors(self):
        truth = B.astype(np.float64)
        ours, theirs = _off(truth, 1e-3), _off(truth, 1e-6)
        for moved, passes in ((1e-5, False), (1e-4, False), (3e-4, True)):
            found = Tolerance(FACTOR).judge(
                "y", ours, theirs, truth, Budget(5e-5), lambda _, n=moved: n
            )
            assert found.passed == passes
            assert (found.note is not None) == (moved > 5e-5)

    def test_both_far_from_the_truth_and_near_each_other_is_remarked_upon(self):
        found = self._judge(_off(B, 0.5), _off(B, 0.5), budget=Budget(1e-5))
        assert found.passed and "the reference is wrong" in found.note

    def test_infinite_where_the_truth_does_not_fit_the_type(self):
        truth = np.array([1e39, 1.0])
        ours, theirs = np.float32([np.inf, 1]), np.float32([3e38, 1])
        assert self._judge(ours, theirs, truth).passed
        assert not self._judge(np.float32([np.nan, 1]), theirs, truth).passed

    def test_a_truth_of_another_shape_is_a_problem(self):
        assert "the truth has shape" in self._judge(B, B, self.TRUTH[:1]).problem


class TestAtSight:
    """Without the truth."""

    def test_needs_a_yardstick_and_nearness(self):
        tolerance = Tolerance(FACTOR)
        assert tolerance.passes_at_sight("y", B, B) is None
        tolerance.learn("y", _off(B, 1e-4), B.astype(np.float64), BUDGET)
        assert tolerance.passes_at_sight("y", B, _off(B, 2.9e-4)).passed
        assert tolerance.passes_at_sight("y", B, _off(B, 3.2e-4)) is None
        assert tolerance.passes_at_sight("y", B, B.astype(np.float64)) is None

    @given(st.floats(0, 2e-3), st.floats(0, 2e-3), st.booleans())
    def test_never_passes_what_the_truth_would_refuse(self, ours, theirs, opposite):
        truth = B.astype(np.float64)
        tolerance = Tolerance(FACTOR)
        tolerance.learn("y", _off(B, 1e-4), truth, BUDGET)
        a, b = _off(B, ours), _off(B, -theirs if opposite else theirs)
        if tolerance.passes_at_sight("y", a, b) is not None:
            assert tolerance.judge("y", a, b, truth, BUDGET).passed

    def test_equal_integers_pass_and_others_need_the_truth(self):
        tolerance, a = Tolerance(FACTOR), np.array([1, 2])
        assert tolerance.passes_at_sight("y", a, a).passed
        assert tolerance.passes_at_sight("y", a, a + 1) is None
