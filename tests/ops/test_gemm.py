from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import GEMM
from tilewright.ops import GemmSpec


@pytest.mark.parametrize(
    ("x", "w", "batch"),
    [
        ((7, 4), (4, 8), ()),
        ((2, 7, 4), (4, 8), (2,)),
        ((7, 4), (3, 4, 8), (3,)),
        ((2, 1, 7, 4), ("b", 4, 8), (2, "b")),
    ],
)
def test_sizes_of_the_product(x, w, batch):
    spec = GemmSpec("float32", x=x, w=w, constant_weights=True)
    assert (spec.batch, spec.m, spec.n, spec.k) == (batch, 7, 8, 4)


def test_sizes_of_a_pooled_product():
    spec = GemmSpec("float32", x=("n", 4, 5, 6), w=(4, 8), constant_weights=True, pooled=True)
    assert (spec.batch, spec.m, spec.n, spec.k) == ((), "n", 8, 4)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"x": (2, -1, 4)}, "Gemm: x is"),
        ({"w": (4, -1)}, "Gemm: w is"),
        ({"x": (4,)}, "by"),
        ({"w": (4,)}, "by"),
        ({"x": (2, 4), "pooled": True}, "pooled: True"),
        ({"w": (5, 8)}, "sums of 4 terms"),
    ],
)
def test_checks_itself(fields, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(GEMM, **fields)
