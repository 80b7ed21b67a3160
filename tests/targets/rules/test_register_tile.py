from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.rules.machine_code import instructions
from tilewright.targets import resolve
from tilewright.targets.catalog import CATALOG
from tilewright.targets.rules.gemm import linear
from tilewright.targets.rules.register_tile import MOST_ROWS, heights, lanes_of, most_rows
from tilewright.targets.rules.rule import Given


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


@pytest.mark.parametrize(("m", "depth", "n"), [(64, 32, 24), (64, 27, 32), (1, 1280, 1000)])
def test_neon_multiplies_by_an_element_and_keeps_all_sums_in_registers(m, depth, n):
    """Of many rows, of a stem whose windows are no whole vectors, of a classifier's one row."""
    w = np.zeros((depth, n), "float32")
    kernel = linear("main", Given("x"), (m, depth), w, (), (), resolve("rpi4")).kernel
    code = instructions(kernel, "rpi4")
    products = [line for line in code if line.startswith("fmla")]
    assert sum(".s[" in line for line in products) == len(products)
    first, last = (code.index(line) for line in (products[0], products[-1]))
    assert not any("[sp" in line for line in code[first:last] if line.split("\t")[1][0] == "q")
