from __future__ import annotations

import itertools

import pytest

from tilewright.targets import CATALOG, isa


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_a_level_has_all_of_the_levels_below(row):
    levels = [isa.X86_64_V2, isa.AVX, isa.X86_64_V3, isa.X86_64_V4]
    have = [set(level) <= set(row.features) for level in levels]
    assert have == sorted(have, reverse=True), "a feature of a lower level is missing"


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_figures_are_plausible(row):
    assert 16 <= row.l1d_bytes / 1024 <= 128
    assert row.l1d_bytes < row.l2_bytes <= 16 << 20
    assert row.l3_bytes == 0 or row.l3_bytes >= row.l2_bytes
    assert row.fma_ports <= 2 and (row.fma_ports > 0) == ("fma" in row.features)


def test_generic_rows_get_richer():
    generic = [set(row.features) for row in CATALOG if not row.family_models]
    assert all(a < b for a, b in itertools.pairwise(generic))


def test_features_have_a_kernel_flag_each():
    flags = list(isa.X86_FEATURES.values())
    assert len(set(flags)) == len(flags)
