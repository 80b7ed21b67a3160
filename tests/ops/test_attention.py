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


def test_a_mask_has_a_way_and_a_shape():
    with pytest.raises(ValueError, match="mask is 'xor', want one of none, add"):
        dataclasses.replace(ATTENTION, mask="xor")
    with pytest.raises(ValueError, match="mask is 'add', its shape None"):
        dataclasses.replace(ATTENTION, mask_shape=None)
    with pytest.raises(ValueError, match=r"mask is 'none', its shape \(5, 7\)"):
        dataclasses.replace(ATTENTION, mask="none")


def test_operands_of_one_source_are_a_joint_projection():
    assert not ATTENTION.joint
    again = dataclasses.replace(ATTENTION.v, source=ATTENTION.k.source)
    assert dataclasses.replace(ATTENTION, v=again).joint
