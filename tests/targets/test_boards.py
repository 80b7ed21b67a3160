from __future__ import annotations

import pytest

from tilewright.targets import CATALOG
from tilewright.targets.boards import BOARDS

ARM = [row for row in BOARDS if row.machine.name == "aarch64"]


@pytest.mark.parametrize("row", ARM, ids=lambda row: row.name)
def test_linux_tells_of_every_feature_that_a_board_has(row):
    assert set(row.features) <= set(row.machine.hwcap)
    assert {"fp-armv8", "neon"} <= set(row.features), "every Armv8-A core has them"


def test_boards_are_targets():
    assert set(BOARDS) <= set(CATALOG)
    assert {row.machine.name for row in BOARDS} == {"aarch64", "armv7", "riscv64"}


def test_a_generic_row_has_no_more_than_any_board_of_its_kind():
    for name in ("aarch64", "armv7"):
        rows = [row for row in BOARDS if row.machine.name == name]
        generic = next(row for row in rows if row.name == name)
        for row in rows:
            assert set(generic.features) <= set(row.features)
            assert generic.l1d_bytes <= row.l1d_bytes and generic.l2_bytes <= row.l2_bytes
