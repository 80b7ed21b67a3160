from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tilewright.autotune.features import describe
from tilewright.targets import resolve

ZEN3 = resolve("zen3")
PRODUCT = {
    "m": 196,
    "n": 256,
    "k": 512,
    "rows": 4,
    "vectors": 2,
    "tiles": 7,
    "panels": 4,
    "parts": 1,
}


def test_loops_are_seen_against_the_target():
    facts = describe("conv", {"vectors": 2}, {"": PRODUCT}, ZEN3)
    assert facts["rule_conv"] == 1 and facts["rule_winograd"] == 0
    assert facts["filled_rows"] == facts["filled_columns"] == 1
    assert facts["panel_of_l1"] == 0  # 512 rows of 16 floats are 32 KiB.
    assert facts["pieces"] == math.log2(7 * 4)
    wider = describe("conv", {}, {"": PRODUCT}, replace(ZEN3, l1d_bytes=2 * ZEN3.l1d_bytes))
    assert wider["panel_of_l1"] == -1


def test_kernels_count_by_their_products():
    small = {**PRODUCT, "m": 1, "rows": 1, "tiles": 1}
    both = describe("mlp", {}, {"up": PRODUCT, "down": small}, ZEN3)
    alone = describe("mlp", {}, {"up": PRODUCT}, ZEN3)
    assert abs(both["rows"] - alone["rows"]) < 0.05 and both["kernels"] == 2


def test_a_group_without_products_has_the_same_features():
    none = describe("attention", {"keys": 64}, {}, ZEN3)
    assert none.keys() == describe("conv", {}, {"": PRODUCT}, ZEN3).keys()
    assert none["knob_keys"] == math.log2(65)


@given(
    **{name: st.integers(1, 5000) for name in ("m", "n", "k")},
    **{name: st.integers(1, 12) for name in ("rows", "vectors", "tiles", "panels", "parts")},
)
def test_features_are_numbers_whatever_the_loops(**product):
    facts = describe("conv", {}, {"": product}, ZEN3)
    assert all(math.isfinite(value) for value in facts.values())
    assert 0 < facts["filled_rows"] <= 1 and 0 < facts["balance"] <= 1
