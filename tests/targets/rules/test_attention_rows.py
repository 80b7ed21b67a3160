"""Attention whose operands and result do not lie in rows, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.test_attention import check, cross, spec_of
from tilewright.ops.attention import Operand
from tilewright.targets.rules.attention_rows import in_rows
from tilewright.targets.rules.rule import Argument, Given, GroupCall

TURNED = ("transpose", (0, 1, 3, 2))


def _columns(heads, queries, keys, sizes, parted):
    """Operands with the values of a head in columns: their heads are `parted`, or to be."""
    size, value_size = sizes

    def operand(number, rows, width, *views):
        split = ("reshape", (2, heads, width, rows))
        shape = split[1] if parted else (2, heads * width, rows)
        return Operand(number, shape, (*(() if parted else (split,)), *views))

    operands = (
        operand(0, queries, size, TURNED),
        operand(1, keys, size),
        operand(2, keys, value_size, TURNED),
    )
    y = (TURNED, *(() if parted else (("reshape", (2, heads * value_size, queries)),)))
    return spec_of((2, heads, heads, queries, keys, *sizes), operands, y, {})


def _call(spec, shape):
    arguments = tuple(Argument(o.shape, "float32") for o in (spec.q, spec.k, spec.v))
    places = {"q": 0, "k": 1, "v": 2}
    return GroupCall("group", spec, arguments, places, Argument(shape, "float32"))


@settings(max_examples=examples(10), deadline=None)
@given(
    heads=st.integers(1, 3),
    queries=st.integers(1, 40),
    keys=st.integers(1, 40),
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 33)),
    parted=st.booleans(),
)
def test_columns(heads, queries, keys, sizes, parted):
    check(_columns(heads, queries, keys, sizes, parted))


def test_columns_whose_heads_are_to_be_parted_are_read_with_channels_last():
    rows = in_rows(_call(_columns(3, 19, 21, (8, 8), False), (2, 24, 19)))
    assert rows.sources == (Given("q"), Given("k", True), Given("v", True))
    assert (rows.launches, rows.y, rows.channels_last) == ((), (2, 19, 24), True)


def test_columns_of_heads_are_copied():
    rows = in_rows(_call(_columns(3, 19, 21, (8, 5), True), (2, 3, 5, 19)))
    assert rows.sources == (Given("q"), 0, 1) and len(rows.launches) == 2
    assert (rows.y, rows.channels_last, rows.copied) == ((2, 3, 19, 5), False, True)
    assert rows.spec.k.shape == (2, 3, 21, 8) and rows.spec.v.shape == (2, 3, 21, 5)


def test_what_has_no_strides_with_its_channels_last_is_copied():
    """Keys are cut out of channels and lines as one axis; with channels last it is two."""
    heads, keys, size = 2, 7, 8
    cut = ("slice", (1, 0, heads * size, 1))
    k = Operand(1, (1, 6, 3, keys), (("reshape", (1, 18, keys)), cut))
    k = Operand(1, k.shape, (*k.views, ("reshape", (1, heads, size, keys))))
    q = Operand(0, (1, heads, 5, size), ())
    v = Operand(2, (1, heads, keys, size), ())
    spec = spec_of((1, heads, heads, 5, keys, size, size), (q, k, v), (), {})
    rows = in_rows(_call(spec, (1, heads, 5, size)))
    assert rows.sources == (Given("q"), 0, Given("v"))
    check(spec)


def test_what_lies_in_rows_is_read_as_it_is():
    spec = cross((2, 3, 3), 19, 21, (8, 8))
    rows = in_rows(_call(spec, (2, 3, 19, 8)))
    assert rows.spec == spec and not rows.launches and not rows.copied
    assert all(source == Given(role) for source, role in zip(rows.sources, "qkv", strict=True))


@pytest.mark.parametrize("queries, keys", [(64, 64), (301, 557)])
def test_columns_of_whole_tiles_and_of_many(queries, keys):
    y = check(_columns(1, queries, keys, (16, 24), True))
    assert np.isfinite(y).all()
