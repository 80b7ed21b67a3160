from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import ROTARY


def test_checks_its_sizes():
    for field in ("x", "cos", "sin"):
        with pytest.raises(ValueError, match=f"Rotary: {field} is"):
            dataclasses.replace(ROTARY, **{field: (1, -4, 5, 8)})
