from __future__ import annotations

import pytest
import tvm
from tvm import relax

from tilewright.passes.shapes import cut_of, is_per_channel, shape_of


def _var(shape, **more):
    return relax.Var("x", relax.TensorType(shape, "float32", **more))


def test_sizes_are_numbers_or_names():
    n = tvm.tirx.Var("n", "int64")
    assert shape_of(_var((2, n, n * 2))) == (2, "n", "n * 2")
    assert shape_of(_var(())) == ()
    assert shape_of(_var(None, ndim=3)) is None
    assert shape_of(relax.Var("t", relax.TupleType([]))) is None


@pytest.mark.parametrize(
    ("shape", "yes"),
    [
        ((8, 1, 1), True),
        ((1, 8, 1, 1), True),
        ((1,), True),
        ((), True),
        ((8,), False),
        ((8, 1), False),
        ((1, 1, 8, 1), False),
        ((2, 8, 1, 1), False),
        ((1, 1, 8, 1, 1), False),
        ((4, 1, 1), False),
    ],
    ids=str,
)
def test_one_value_per_channel(shape, yes):
    assert is_per_channel(_var(shape), 1, 8, 4) == yes


@pytest.mark.parametrize(
    ("axes", "begin", "more", "cut"),
    [
        ([-1], [4], {}, (2, 4)),
        ([2], [-3], {}, (2, 5)),
        ([1], [0], {"strides": [1]}, (1, 0)),
        ([2], [0], {"strides": [2]}, None),
        ([1, 2], [0, 0], {}, None),
        ([0], [1], {}, None),
    ],
    ids=str,
)
def test_a_slice_of_one_axis(axes, begin, more, cut):
    x = _var((tvm.tirx.Var("n", "int64"), 5, 8))
    sliced = relax.op.strided_slice(x, axes=axes, begin=begin, end=[9] * len(axes), **more)
    assert cut_of(sliced) == cut
