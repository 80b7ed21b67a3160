from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import CHAIN, CONV


def test_holds_both_convolutions():
    assert CHAIN.to_dict()["first"]["w"] == [8, 4, 1, 1]
    assert CHAIN.to_dict()["second"]["groups"] == 8


def test_checks_that_the_second_reads_what_the_first_writes():
    with pytest.raises(ValueError, match="writes 8 channels, not 4"):
        dataclasses.replace(CHAIN, second=CONV)
