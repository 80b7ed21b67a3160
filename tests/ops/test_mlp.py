from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import MLP


@pytest.mark.parametrize(("field", "value"), [("x", (2, -5, 8)), ("hidden", -1), ("out", -1)])
def test_checks_its_sizes(field, value):
    with pytest.raises(ValueError, match=f"Mlp: {field} is"):
        dataclasses.replace(MLP, **{field: value})


@pytest.mark.parametrize(("gated", "half"), [(False, 0), (True, 2)])
def test_the_activated_half_is_one_of_two(gated, half):
    assert dataclasses.replace(MLP, gated=True, activated_half=1).activated_half == 1
    with pytest.raises(ValueError, match=f"activated half {half}, gated: {gated}"):
        dataclasses.replace(MLP, gated=gated, activated_half=half)
