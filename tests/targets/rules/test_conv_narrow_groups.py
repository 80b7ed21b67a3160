from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.convolutions import STEPS, check, check_open, conv_specs
from tests.targets.rules.lowering import AVX2
from tilewright.ops import ConvSpec
from tilewright.targets import resolve
from tilewright.targets.rules.conv_narrow_groups import (
    block_lines,
    bundle_of,
    columns_of,
    is_narrow,
    most_rows,
)
from tilewright.targets.rules.geometry import Geometry

GROUPED = {
    "spec": conv_specs(depthwise=False),
    "groups": st.integers(2, 9),
    "c": st.integers(1, 9),
    "n": st.integers(1, 32),
}


def _spec(groups, c, n, size=(31, 29), batch=2, kernel=3, stride=1, pad=1):
    w = (groups * n, c, kernel, kernel)
    strides, pads = (stride, stride), (pad,) * 4
    return ConvSpec("float32", (batch, groups * c, *size), w, strides, pads, (1, 1), groups=groups)


@settings(max_examples=examples(10), deadline=None)
@given(seed=st.integers(0, 9), **GROUPED)
def test_any_narrow_group(spec, groups, c, n, seed):
    x = (spec.x[0], groups * c, *spec.x[2:])
    check(replace(spec, x=x, w=(groups * n, c, *spec.w[2:]), groups=groups), seed, STEPS)


@settings(max_examples=examples(6), deadline=None)
@given(**GROUPED)
def test_any_narrow_group_of_an_open_batch(spec, groups, c, n):
    x = (spec.x[0], groups * c, *spec.x[2:])
    check_open(replace(spec, x=x, w=(groups * n, c, *spec.w[2:]), groups=groups), 0, STEPS)


@settings(max_examples=examples(6), deadline=None)
@given(spec=conv_specs(depthwise=False), n=st.sampled_from([2, 4]), times=st.integers(1, 3))
def test_groups_that_share_a_vector(spec, n, times):
    groups = 8 // n * times
    spec = replace(
        spec,
        x=(spec.x[0], groups * n, *spec.x[2:]),
        w=(groups * n, n, *spec.w[2:]),
        groups=groups,
    )
    assert bundle_of(Geometry(spec), AVX2).groups == 8 // n
    check(spec, 0, STEPS)


@pytest.mark.parametrize("c, n", [(4, 4), (1, 3), (16, 16)])
def test_many_blocks(c, n):
    spec = _spec(8, c, n)
    g = Geometry(spec)
    lines = block_lines(g, AVX2)
    assert is_narrow(g, AVX2) and lines < 2 * 31 / 7
    check(spec, 0, STEPS)
    check_open(spec, 0, STEPS)


@pytest.mark.parametrize(
    ("groups", "c", "n", "together"),
    # Not: unequal sizes, sizes that do not divide a vector, a group left over.
    [(8, 4, 4, 2), (8, 1, 1, 8), (8, 2, 4, 1), (8, 3, 3, 1), (7, 4, 4, 1), (8, 16, 16, 1)],
)
def test_as_many_groups_as_fill_a_vector(groups, c, n, together):
    assert bundle_of(Geometry(_spec(groups, c, n)), AVX2).groups == together


def test_wide_groups_are_left_to_others():
    assert is_narrow(Geometry(_spec(2, 32, 32)), AVX2)
    assert not is_narrow(Geometry(_spec(2, 32, 33)), AVX2)
    assert not is_narrow(Geometry(_spec(1, 8, 8)), AVX2)


@settings(max_examples=examples(40), deadline=None)
@given(
    size=st.integers(3, 60),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    pad=st.integers(0, 4),
)
def test_tiles_cover_a_line_once_and_know_its_edges(size, kernel, stride, pad):
    if size + 2 * pad < kernel:
        return
    g = Geometry(_spec(2, 8, 8, (kernel, size), kernel=kernel, stride=stride, pad=pad))
    outputs = []
    for part in columns_of(g, 6):
        for tile in range(part.count):
            first = part.start + tile * part.height
            outputs += range(first, first + part.height)
            for kw in range(kernel):
                columns = [(first + r) * stride - pad + kw for r in range(part.height)]
                wanted = [r for r, column in enumerate(columns) if 0 <= column < size]
                assert part.rows(g, kw) == wanted
    assert sorted(outputs) == list(range(g.out[1]))


@pytest.mark.parametrize("name", ["x86-64", "x86-64-avx2", "x86-64-avx512"])
def test_a_tile_fits_the_registers(name):
    target = resolve(name)
    for vectors in (1, 2):
        rows = most_rows(vectors, target)
        assert rows >= 4 and rows * vectors + vectors + 3 <= target.vector_registers
