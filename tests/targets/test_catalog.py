from __future__ import annotations

import itertools

import pytest

from tilewright.targets import CATALOG, isa

X86 = [row for row in CATALOG if row.machine.name == "x86_64"]


@pytest.mark.parametrize("row", X86, ids=lambda row: row.name)
def test_a_level_has_all_of_the_levels_below(row):
    levels = [isa.X86_64_V2, isa.AVX, isa.X86_64_V3, isa.X86_64_V4]
    have = [set(level) <= set(row.features) for level in levels]
    assert have == sorted(have, reverse=True), "a feature of a lower level is missing"


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_figures_are_plausible(row):
    assert 16 <= row.l1d_bytes / 1024 <= 128
    assert row.l1d_bytes < row.l2_bytes <= 16 << 20
    assert row.l3_bytes == 0 or row.l3_bytes >= row.l2_bytes
    assert row.fma_ports <= 4
    if row.machine.name == "x86_64":
        assert (row.fma_ports > 0) == ("fma" in row.features)


def test_generic_rows_get_richer():
    generic = [set(row.features) for row in X86 if not row.family_models]
    assert all(a < b for a, b in itertools.pairwise(generic))


@pytest.mark.parametrize("machine", isa.MACHINES, ids=lambda machine: machine.name)
def test_features_have_a_kernel_flag_each(machine):
    flags = list(machine.features.values())
    assert len(set(flags)) == len(flags)
    bits = list(machine.hwcap.values())
    assert set(machine.hwcap) <= set(machine.features) and len(set(bits)) == len(bits)
