from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.rules.lowering import AVX2
from tilewright.targets.catalog import CATALOG
from tilewright.targets.rules.blocking import default_blocking, shares
from tilewright.targets.rules.register_tile import lanes_of

SIZES = st.integers(1, 5000)


@given(m=SIZES, n=SIZES, k=SIZES, target=st.sampled_from(CATALOG))
def test_knobs_are_in_range(m, n, k, target):
    knobs = default_blocking("k", m, n, k, target)
    panels = -(-n // (knobs.vectors * lanes_of(target)))
    assert 1 <= knobs.panels <= panels
    assert 1 <= knobs.tiles <= -(-m // knobs.rows)
    rows = min(m, knobs.rows)
    # A vector of b that only one row reads needs no register of its own.
    columns = knobs.vectors if rows > 1 else 0
    assert rows * knobs.vectors + columns + 1 <= target.vector_registers


@pytest.mark.parametrize(("m", "n", "k"), [(3136, 64, 256), (128, 3072, 768), (49, 512, 2048)])
def test_enough_pieces_and_a_block_in_cache(m, n, k):
    knobs = default_blocking("k", m, n, k, AVX2)
    blocks = -(-m // (knobs.rows * knobs.tiles))
    stretches = -(-n // (knobs.vectors * lanes_of(AVX2) * knobs.panels))
    assert blocks * stretches >= shares(AVX2) // 2
    assert knobs.tiles == 1 or 4 * k * knobs.rows * knobs.tiles <= 0.7 * AVX2.l2_bytes


def test_few_rows_take_more_columns():
    few, many = (default_blocking("k", rows, 1000, 512, AVX2).vectors for rows in (1, 64))
    assert few > many


@pytest.mark.parametrize(("m", "n", "k"), [(128, 768, 3072), (49, 512, 4608), (197, 2304, 768)])
def test_long_sums_are_cut_until_a_panel_stays_in_l1_and_a_block_in_l2(m, n, k):
    assert default_blocking("k", m, n, k, AVX2).parts == 1
    knobs = default_blocking("k", m, n, k, AVX2, runs=1)
    part, wide = -(-k // knobs.parts), knobs.vectors * lanes_of(AVX2)
    assert 4 * part * wide <= 0.8 * AVX2.l1d_bytes
    rows = knobs.rows * knobs.tiles
    assert 4 * rows * (part + knobs.panels * wide) <= 0.7 * AVX2.l2_bytes


@pytest.mark.parametrize(("m", "n", "k"), [(3136, 256, 64), (784, 128, 512), (1, 1000, 4096)])
def test_sums_are_whole_where_a_panel_fits_l1_or_is_read_once(m, n, k):
    assert default_blocking("k", m, n, k, AVX2, runs=1).parts == 1


@given(runs=st.integers(2, 9), length=st.integers(1, 2000))
def test_parts_of_several_runs_are_equal(runs, length):
    parts = default_blocking("k", 100, 64, runs * length, AVX2, runs=runs).parts
    assert parts == 1 or (parts % runs == 0 and length % (parts // runs) == 0)


@pytest.mark.parametrize(("n", "vectors"), [(24, 3), (40, 3), (32, 2), (8, 1)])
def test_no_vector_is_left_alone(n, vectors):
    assert default_blocking("k", 784, n, 96, AVX2).vectors == vectors
