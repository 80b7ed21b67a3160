from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.rules.convolutions import reference
from tests.targets.rules.lowering import run
from tests.targets.rules.machine_code import instructions
from tilewright.ops import ConvSpec, GemmSpec
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
    # What the parts of a long sum add up to may wait in memory, outside of the innermost loop.
    stretches = [[]]
    for line in code:
        stretches[-1].append(line)
        if line.split("\t")[0] in ("b", "cbz", "cbnz", "tbz", "tbnz") or line.startswith("b."):
            stretches.append([])
    for stretch in stretches:
        products = [n for n, line in enumerate(stretch) if line.startswith("fmla")]
        inside = stretch[products[0] : products[-1]] if products else []
        assert not any("[sp" in line for line in inside if line.split("\t")[1][0] == "q")


@pytest.mark.parametrize(("m", "k"), [(1, 3000), (2, 2063), (30, 2048), (64, 4608), (1, 25088)])
def test_a_long_sum_errs_as_its_parts_do(m, k):
    """One that goes on errs 0.28 sqrt(k) units: 8e-7 of the results at k = 2048, 2.6e-6 at last."""
    random = np.random.default_rng(k)
    x, w = (random.standard_normal(shape, dtype="float32") for shape in ((m, k), (k, 64)))
    _, y = run(GemmSpec("float32", x.shape, w.shape, True), (m, 64), x=x, w=w)
    exact = x.astype("f8") @ w
    assert np.sqrt(np.square(y - exact).mean()) < 5e-7 * np.sqrt(k)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_long_sum_over_short_stretches_errs_as_its_parts_do(groups):
    """Of a window of 7x7, a row of which is 7 times 18 channels, and of groups 18 in a row."""
    random = np.random.default_rng(groups)
    shapes = (1, groups * 18, 13, 13), (groups * 40, 18, 7, 7)
    x, w = (random.standard_normal(shape, dtype="float32") for shape in shapes)
    spec = ConvSpec("float32", x.shape, w.shape, (1, 1), (0,) * 4, (1, 1), groups)
    _, y = run(spec, (1, groups * 40, 7, 7), x=x, w=w)
    exact = reference(x, w, spec)
    assert np.sqrt(np.square(y - exact).mean()) < 4e-7 * np.sqrt(882)
