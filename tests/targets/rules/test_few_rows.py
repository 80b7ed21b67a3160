from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import close
from tests.targets.rules.test_matmul import of_values
from tilewright.ops import GemmSpec, Step
from tilewright.targets.rules.few_rows import MOST_ROWS


def _check(batch, m, k, n):
    x, w, bias = floats(0, (*batch, m, k), (*batch, k, n), (n,))
    spec = GemmSpec("float32", x.shape, w.shape, False, epilogue=(Step("bias"), Step("relu")))
    name, y = of_values(spec, (*batch, m, n), x=x, w=w, bias=bias)
    assert name == "matmul"
    close(y, np.maximum(x.astype("f8") @ w + bias, 0), k)


@settings(max_examples=examples(10), deadline=None)
@given(
    batch=st.sampled_from([(), (3,), (2, 3)]),
    m=st.integers(1, MOST_ROWS),
    k=st.integers(1, 40),
    n=st.integers(1, 300),
)
def test_any_product(batch, m, k, n):
    _check(batch, m, k, n)


@pytest.mark.parametrize(
    ("batch", "m", "k", "n"),
    [((), 1, 300, 1024), ((), 4, 130, 2600), ((2,), 3, 64, 515), ((1,), 1, 9, 7)],
)
def test_several_pieces_of_columns_and_a_last_one(batch, m, k, n):
    _check(batch, m, k, n)
