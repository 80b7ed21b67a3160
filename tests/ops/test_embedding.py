from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import EMBEDDING


def test_needs_a_table():
    with pytest.raises(ValueError, match="no table"):
        dataclasses.replace(EMBEDDING, tables=())


def test_checks_its_sizes():
    for field, sizes in (("ids", ((1, -5),)), ("tables", ((-9, 8),))):
        with pytest.raises(ValueError, match="Embedding: tables_and_ids is"):
            dataclasses.replace(EMBEDDING, **{field: sizes})


def test_every_table_has_its_ids():
    with pytest.raises(ValueError, match="1 tables, ids"):
        dataclasses.replace(EMBEDDING, ids=((1, 5), (1, 5)))
