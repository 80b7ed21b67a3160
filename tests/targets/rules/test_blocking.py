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
    knobs = default_blocking(m, n, k, target)
    panels = -(-n // (knobs.vectors * lanes_of(target)))
    assert 1 <= knobs.panels <= panels
    assert 1 <= knobs.tiles <= -(-m // knobs.rows)
    rows = min(m, knobs.rows)
    # A vector of b that only one row reads needs no register of its own.
    columns = knobs.vectors if rows > 1 else 0
    assert rows * knobs.vectors + columns + 1 <= target.vector_registers


@pytest.mark.parametrize(("m", "n", "k"), [(3136, 64, 256), (128, 3072, 768), (49, 512, 2048)])
def test_enough_pieces_and_a_block_in_cache(m, n, k):
    knobs = default_blocking(m, n, k, AVX2)
    blocks = -(-m // (knobs.rows * knobs.tiles))
    stretches = -(-n // (knobs.vectors * lanes_of(AVX2) * knobs.panels))
    assert blocks * stretches >= shares(AVX2) // 2
    assert knobs.tiles == 1 or 4 * k * knobs.rows * knobs.tiles <= 0.7 * AVX2.l2_bytes


def test_few_rows_take_more_columns():
    assert (
        default_blocking(1, 1000, 512, AVX2).vectors > default_blocking(64, 1000, 512, AVX2).vectors
    )


def test_long_rows_are_cut_where_each_block_would_read_all_weights_again():
    """128 rows of 3072 floats are 1.5 MB: blocks of them in L2 would read 9.4 MB eight times."""
    assert default_blocking(128, 768, 3072, AVX2).parts == 1
    knobs = default_blocking(128, 768, 3072, AVX2, runs=1)
    assert knobs.parts > 1
    part = -(-3072 // knobs.parts)
    assert 4 * part * knobs.rows * knobs.tiles <= 0.7 * AVX2.l2_bytes


@pytest.mark.parametrize(("m", "n", "k"), [(128, 8, 3072), (3136, 256, 64), (1, 1000, 4096)])
def test_rows_are_whole_where_the_weights_stay_in_the_cache(m, n, k):
    assert default_blocking(m, n, k, AVX2, runs=1).parts == 1
