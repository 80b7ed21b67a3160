from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import MLP


@pytest.mark.parametrize(("field", "value"), [("x", (2, -5, 8)), ("hidden", -1), ("out", -1)])
def test_checks_its_sizes(field, value):
    with pytest.raises(ValueError, match=f"Mlp: {field} is"):
        dataclasses.replace(MLP, **{field: value})
