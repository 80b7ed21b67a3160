from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tilewright.verification.compare import compare

B = np.float32([[100, -50, 1e-3], [0, 2, 3]])


def _check(ours, reference=B, budget=1e-5, floor=0.0):
    return compare("y", np.asarray(ours), np.asarray(reference), budget, floor)


def test_equal_arrays_use_nothing_of_the_budget():
    found = _check(B.copy())
    assert (found.passed, found.error, found.used) == (True, 0.0, 0.0)
    assert found.cosine == pytest.approx(1)


def test_an_error_is_relative_to_the_largest_value():
    for error, passed in ((0.9e-3, True), (1.1e-3, False)):
        ours = B.astype(np.float64)
        ours[1, 0] += error
        found = _check(ours, B.astype(np.float64))
        assert found.passed == passed and found.worst == (1, 0)
        assert found.used == pytest.approx(error / 1e-3)
        assert found.max_abs == pytest.approx(error)


def test_a_floor_replaces_a_smaller_largest_value():
    tiny = np.float32([1e-9, 2e-9])
    assert not _check(tiny * 2, tiny).passed
    assert _check(tiny * 2, tiny, floor=1.0).passed


def test_zeros_must_be_zeros():
    zeros = np.zeros(3, np.float32)
    assert _check(zeros, zeros).passed
    assert not _check(zeros + np.float32(1e-30), zeros).passed


ODD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("value", ODD)
def test_nan_and_infinity_must_be_where_the_reference_has_them(value):
    reference = B.copy()
    reference[0, 1] = value
    assert _check(reference.copy(), reference).passed
    found = _check(B, reference)
    assert not found.passed and found.worst == (0, 1) and "1 places" in found.problem
    assert not _check(reference, B).passed
    for other in ODD:
        ours = reference.copy()
        ours[0, 1] = other
        same = np.array_equal(ours, reference, equal_nan=True)
        assert _check(ours, reference).passed == same


def test_an_error_beside_an_infinity_is_still_seen():
    reference = np.float32([np.inf, 1, 2])
    assert not _check(np.float32([np.inf, 1, 2.1]), reference).passed
    assert _check(np.float32([np.nan] * 3), np.float32([np.nan] * 3)).passed


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_and_booleans_must_be_equal(dtype):
    reference = np.array([0, 1, 1, 0]).astype(dtype)
    assert _check(reference.copy(), reference, budget=1.0).passed
    ours = reference.copy()
    ours[2] = 0
    found = _check(ours, reference, budget=1.0)
    assert not found.passed and found.worst == (2,) and "1 of 4 elements differ" in found.problem


def test_large_integers_are_not_compared_as_floats():
    a = np.array([2**53], np.int64)
    assert not _check(a + 1, a).passed


def test_other_shapes_and_types_fail():
    found = _check(B.T, B)
    assert not found.passed and "is float32[3, 2], want float32[2, 3]" in found.problem
    assert not _check(B.astype(np.float64), B).passed


def test_nothing_equals_nothing():
    empty = np.zeros((0, 3), np.float32)
    assert _check(empty, empty).passed


def test_scalars():
    assert _check(np.float32(2), np.float32(2)).passed
    assert not _check(np.float32(2.1), np.float32(2)).passed


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_floats(dtype):
    reference = np.array([1, 2, 4], dtype)
    ours = reference.copy()
    ours[0] += dtype(0.25)
    assert _check(ours, reference, budget=0.1).passed
    assert not _check(ours, reference, budget=0.05).passed


def test_the_result_is_json():
    for ours in (B, B + 1, B.T, np.full_like(B, np.nan)):
        json.dumps(_check(ours).to_dict(), allow_nan=False)


@given(
    arrays.arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(1e-7, 1e-2),
)
def test_passes_exactly_within_the_budget(reference, budget):
    scale = float(np.abs(reference.astype(np.float64)).max())
    exact = reference.astype(np.float64)
    if scale < 1e-30:
        return
    for factor, passed in ((0.99, True), (1.01, False)):
        ours = exact.copy()
        ours[1, 2] += factor * budget * scale
        assert compare("y", ours, exact, budget).passed == passed
