from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import CONV, SQUEEZE


def test_holds_its_projection():
    assert SQUEEZE.to_dict()["projection"] == CONV.to_dict()
    assert dataclasses.replace(SQUEEZE, projection=None).to_dict()["projection"] is None


@pytest.mark.parametrize(("field", "value"), [("x", (1, -8, 4, 4)), ("squeezed", -2)])
def test_checks_its_sizes(field, value):
    with pytest.raises(ValueError, match=f"{field} is"):
        dataclasses.replace(SQUEEZE, **{field: value})
