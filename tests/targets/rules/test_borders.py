from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import AVX2, launched
from tilewright.targets.rules.borders import Bordered, padded
from tilewright.targets.rules.rule import Given

AXIS = st.tuples(st.integers(1, 5), st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=examples(4), deadline=None)
@given(axes=st.lists(AXIS, min_size=1, max_size=3), batch=st.integers(1, 2), c=st.integers(1, 9))
def test_zeros_around_any_number_of_axes(axes, batch, c):
    size, begins, ends = zip(*axes, strict=True)
    shape = (batch, *size, c)
    (x,) = floats(0, shape)
    bordered = Bordered(batch, size, c, begins, ends)
    launch = padded("pad", Given("x", channels_last=True), shape, bordered, AVX2)
    borders = ((0, 0), *zip(begins, ends, strict=True), (0, 0))
    wanted = np.pad(x, borders)
    assert bordered.shape == wanted.shape and bordered.pads == any((*begins, *ends))
    first = np.moveaxis(x, -1, 1)
    np.testing.assert_array_equal(launched([launch], {"x": first}, AVX2), wanted)
