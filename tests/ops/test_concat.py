from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import CONCAT


def test_holds_convolutions_and_shapes():
    conv, value = CONCAT.to_dict()["parts"]
    assert conv["w"] == [8, 4, 3, 3] and value == ["n", 3, 8, 8]


def test_checks_that_there_is_something_to_join():
    with pytest.raises(ValueError, match="no parts"):
        dataclasses.replace(CONCAT, parts=())
