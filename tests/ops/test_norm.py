from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import NORM
from tilewright.ops.norm import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_takes_each_method(method):
    assert dataclasses.replace(NORM, method=method).method == method


def test_refuses_another_method():
    with pytest.raises(ValueError, match="method 'lrn', want one of"):
        dataclasses.replace(NORM, method="lrn")
