from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import EMBEDDING


def test_needs_a_table():
    with pytest.raises(ValueError, match="no table"):
        dataclasses.replace(EMBEDDING, tables=())


def test_checks_its_sizes():
    with pytest.raises(ValueError, match="ids is"):
        dataclasses.replace(EMBEDDING, ids=(1, -5))
