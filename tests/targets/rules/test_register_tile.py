from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.targets.catalog import CATALOG
from tilewright.targets.rules.register_tile import MOST_ROWS, heights, lanes_of, most_rows


@given(rows=st.integers(1, 500), most=st.integers(1, 14))
def test_heights_cover_all_rows_nearly_equally(rows, most):
    found = heights(rows, most)
    assert sum(count * height for count, height in found) == rows
    sizes = [height for _, height in found]
    assert max(sizes) <= most and max(sizes) - min(sizes) <= 1 and sizes[0] == max(sizes)


@pytest.mark.parametrize("target", CATALOG, ids=lambda target: target.name)
def test_a_tile_fits_the_registers(target):
    for vectors in (1, 2, 3):
        rows = most_rows(target, vectors)
        assert rows * vectors + vectors + 1 <= target.vector_registers
        full = (rows + 1) * vectors + vectors + 1 > target.vector_registers
        assert full or rows == MOST_ROWS
    assert lanes_of(target) * 32 == target.vector_bits
