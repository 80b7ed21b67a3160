from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.lowering import run
from tilewright.ops import SoftmaxSpec
from tilewright.targets.catalog import CATALOG


def _exact(x: np.ndarray, axis: int, log: bool) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = x.astype(np.float64) - x.max(axis, keepdims=True)
        total = np.exp(shifted).sum(axis, keepdims=True)
        return shifted - np.log(total) if log else np.exp(shifted) / total


def _check(x: np.ndarray, axis: int, log: bool, *target) -> np.ndarray:
    name, y = run(SoftmaxSpec("float32", x.shape, axis, log), x.shape, *target, x=x)
    assert name == "softmax"
    # Roundings of x - max, which the exponential passes on, and of the sum.
    np.testing.assert_allclose(y, _exact(x, axis, log), rtol=4e-6, atol=4e-6 if log else 0)
    return y


@settings(max_examples=examples(14), deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
    axis=st.integers(0, 2),
    log=st.booleans(),
)
def test_any_axis(shape, axis, log):
    x = 3 * np.random.default_rng(0).standard_normal(shape, dtype="float32")
    _check(x, axis % len(shape), log)


@pytest.mark.parametrize("axis", [0, 1])
def test_every_vector_width(axis):
    x = np.random.default_rng(0).standard_normal((37, 45), dtype="float32")
    for target in CATALOG:
        if target.name in ("x86-64", "x86-64-avx", "x86-64-avx2"):
            _check(x, axis, False, target)


@pytest.mark.parametrize("axis", [0, 1])
def test_infinities_and_nan(axis):
    x = np.zeros((20, 20), np.float32)
    rows = x if axis else x.T
    rows[0], rows[1, 3], rows[2, 4], rows[3, ::2] = -np.inf, np.nan, np.inf, -np.inf
    y = _check(x, axis, False)
    y = y if axis else y.T
    assert np.isnan(y[:3]).all()
    assert (y[3, ::2] == 0).all()


@pytest.mark.parametrize("width", [1, 3, 20])
def test_a_long_column_errs_as_little_as_a_row(width):
    """Added in order in float32, numbers that are nearly alike err by 2e-5."""
    x = np.float32(0.01 * np.random.default_rng(0).standard_normal((3072, width)))
    _, y = run(SoftmaxSpec("float32", x.shape, 0, False), x.shape, x=x)
    np.testing.assert_allclose(y, _exact(x, 0, False), rtol=1e-6)
