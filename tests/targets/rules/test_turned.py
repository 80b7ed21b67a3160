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


def _transpose(shape, axes, dtype="float32") -> tirx.PrimFunc:
    x = te.placeholder(shape, dtype, name="x")
    y = topi.transpose(topi.nn.relu(x), axes)
    return schedule(te.create_prim_func([x, y]).with_attr("tirx.noalias", True), AVX2)[0]


def _loops(function: tirx.PrimFunc) -> list[int]:
    found = []
    kinds = (tirx.For, lambda loop: found.append(int(loop.extent)))
    tvm_ffi.structural_walk(function, kinds, order=tvm_ffi.WalkOrder.PREORDER)
    return found


@pytest.mark.parametrize(
    ("shape", "axes", "dtype", "tile"),
    [
        ((900, 4000), (1, 0), "float32", [16, 16]),
        ((4000, 96), (1, 0), "float32", [16, 16]),
        ((4000, 96), (1, 0), "float16", [32, 32]),
        # Images to channels first: all of an image lies between two channels.
        ((1, 56, 56, 64), (0, 3, 1, 2), "float32", [16, 16]),
        # 200 lines stay in L1, unless they all belong into the same few sets of it.
        ((200, 300), (1, 0), "float32", [200]),
        ((200, 512), (1, 0), "float32", [16, 16]),
        # Rows stay rows.
        ((30, 40, 500), (1, 0, 2), "float32", [500]),
    ],
)
def test_a_tile_takes_whole_lines(shape, axes, dtype, tile):
    assert _loops(_transpose(shape, axes, dtype))[-len(tile) :] == tile


def _parts(before, shape):
    """Channels-last images as three parts, heads in front, of one kernel."""
    x = te.placeholder(before, "float32", name="x")
    turned = topi.reshape(topi.transpose(x, (0, 3, 1, 2)), shape)
    parts = topi.split(turned, 3, axis=2)
    return te.create_prim_func([x, *parts]).with_attr("tirx.noalias", True)


def test_the_parts_of_a_reshaped_transpose_are_tiled():
    """The reshape cuts positions in rows and columns, and channels in heads."""
    function = schedule(_parts((1, 20, 20, 768), (1, 4, 192, 400)), AVX2)[0]
    assert _loops(function).count(16) == 6


def test_the_parts_of_a_reshaped_transpose_keep_their_numbers():
    shape = (2, 9, 7, 72)
    x = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    function = schedule(_parts(shape, (2, 3, 24, 63)), AVX2)[0]
    wanted = np.split(x.transpose(0, 3, 1, 2).reshape(2, 3, 24, 63), 3, axis=2)
    out = [tvm.runtime.tensor(np.zeros(part.shape, "float32")) for part in wanted]
    built(function, "x86-64-avx2")["main"](tvm.runtime.tensor(x), *out)
    for ours, part in zip(out, wanted, strict=True):
        np.testing.assert_array_equal(ours.numpy(), part)


def test_a_factor_for_each_row_has_no_tile():
    x, factor = te.placeholder((64, 4000), "float32"), te.placeholder((64, 1), "float32")
    y = topi.multiply(x, factor)
    function = te.create_prim_func([x, factor, y]).with_attr("tirx.noalias", True)
    assert _loops(schedule(function, AVX2)[0]) == [64, 4000]


def test_a_single_number_has_no_tile():
    x = te.placeholder((), "float32", name="x")
    function = te.create_prim_func([x, topi.nn.relu(x)]).with_attr("tirx.noalias", True)
    assert _loops(schedule(function, AVX2)[0]) == []


@settings(max_examples=examples(12), deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 700), st.integers(1, 100)),
    axes=st.permutations(range(3)),
)
def test_numbers_stay(shape, axes):
    x = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    wanted = np.maximum(x, 0).transpose(axes)
    out = tvm.runtime.tensor(np.zeros(wanted.shape, "float32"))
    built(_transpose(shape, axes), "x86-64-avx2")["main"](tvm.runtime.tensor(x), out)
    np.testing.assert_array_equal(out.numpy(), wanted)
