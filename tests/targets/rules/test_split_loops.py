from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te, tirx, topi

from tests.examples import examples
from tests.targets.rules.lowering import AVX2
from tests.targets.rules.machine_code import built
from tilewright.targets.rules.fallback import schedule
from tilewright.targets.rules.split_loops import split_loops


def _concat(sizes, axis: int) -> tirx.PrimFunc:
    """relu of a concat; the other sizes are 3, 5 and 7."""
    shapes = [[3, 5, 7] for _ in sizes]
    for shape, size in zip(shapes, sizes, strict=True):
        shape[axis] = size
    xs = [te.placeholder(shape, name=f"x{i}") for i, shape in enumerate(shapes)]
    y = topi.nn.relu(topi.concatenate(xs, axis=axis))
    return schedule(te.create_prim_func([*xs, y]).with_attr("tirx.noalias", True), AVX2)[0]


def _loops(function: tirx.PrimFunc) -> list[int]:
    found = []
    kinds = (tirx.For, lambda loop: found.append(int(loop.extent)))
    tvm_ffi.structural_walk(function, kinds, order=tvm_ffi.WalkOrder.PREORDER)
    return found


def test_each_part_of_a_concat_has_a_loop():
    assert _loops(split_loops(_concat([64, 32, 8], 2)))[2:] == [64, 32, 8]


@pytest.mark.parametrize("sizes", [[1, 1, 1], [1, 2, 3, 1]])
def test_parts_that_are_too_short_stay_together(sizes):
    assert _loops(split_loops(_concat(sizes, 2)))[2:] == [sum(sizes)]


def test_a_concat_of_other_axes_compares_nothing_in_its_innermost_loop():
    before = _concat([4, 9], 1)
    assert tvm_ffi.structural_equal(split_loops(before), before)


@settings(max_examples=examples(10), deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6), axis=st.integers(0, 2))
def test_numbers_stay(sizes, axis):
    random = np.random.default_rng(0)
    shapes = [[size if a == axis else s for a, s in enumerate((3, 5, 7))] for size in sizes]
    xs = [random.standard_normal(shape, dtype="float32") for shape in shapes]
    wanted = np.maximum(np.concatenate(xs, axis), 0)
    out = tvm.runtime.tensor(np.zeros_like(wanted))
    run = built(split_loops(_concat(sizes, axis)), "x86-64-avx2")["main"]
    run(*map(tvm.runtime.tensor, xs), out)
    np.testing.assert_array_equal(out.numpy(), wanted)
