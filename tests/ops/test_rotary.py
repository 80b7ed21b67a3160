from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import ROTARY


def test_checks_its_sizes():
    with pytest.raises(ValueError, match="Rotary: x is"):
        dataclasses.replace(ROTARY, x=(1, -4, 5, 8))
