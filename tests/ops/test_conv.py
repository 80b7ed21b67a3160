from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import CONV


def test_depthwise_is_one_filter_per_channel():
    assert not CONV.depthwise
    assert dataclasses.replace(CONV, x=(1, 8, 9, 9), w=(8, 1, 3, 3), groups=8).depthwise
    assert not dataclasses.replace(CONV, x=(1, 8, 9, 9), w=(8, 2, 3, 3), groups=4).depthwise
    assert not dataclasses.replace(CONV, x=(1, 1, 9, 9), w=(8, 1, 3, 3)).depthwise


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("x", (1, -4, 8, 8), "x is"),
        ("w", (8, 4, -3, 3), "w is"),
        ("strides", (1,), "2 axes, strides"),
        ("dilation", (1, 1, 1), "2 axes, strides"),
        ("padding", (1, 1), "want 4 numbers"),
        ("groups", 0, "0 groups"),
    ],
)
def test_checks_itself(field, value, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(CONV, **{field: value})
