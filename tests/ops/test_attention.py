from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import ATTENTION


def test_heads_share_keys_evenly():
    assert dataclasses.replace(ATTENTION, kv_heads=1).kv_heads == 1
    assert dataclasses.replace(ATTENTION, kv_heads="g").kv_heads == "g"
    with pytest.raises(ValueError, match="8 heads share 3 keys"):
        dataclasses.replace(ATTENTION, kv_heads=3)


@pytest.mark.parametrize("field", ["queries", "keys", "head_size"])
def test_checks_its_sizes(field):
    with pytest.raises(ValueError, match=f"{field} is -1"):
        dataclasses.replace(ATTENTION, **{field: -1})
