from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.convolutions import STEPS, check, check_open, conv_specs
from tests.targets.rules.lowering import AVX2
from tilewright.ops import ConvSpec
from tilewright.targets.rules.conv_grouped import block_rows
from tilewright.targets.rules.conv_narrow_groups import is_narrow
from tilewright.targets.rules.geometry import Geometry

GROUPED = {
    "spec": conv_specs(depthwise=False),
    "groups": st.integers(2, 4),
    "c": st.integers(1, 9),
    "n": st.integers(33, 50),
}


@settings(max_examples=examples(8), deadline=None)
@given(seed=st.integers(0, 9), **GROUPED)
def test_any_grouped_convolution(spec, groups, c, n, seed):
    x = (spec.x[0], groups * c, *spec.x[2:])
    check(replace(spec, x=x, w=(groups * n, c, *spec.w[2:]), groups=groups), seed, STEPS)


@settings(max_examples=examples(6), deadline=None)
@given(**GROUPED)
def test_any_grouped_convolution_of_an_open_batch(spec, groups, c, n):
    x = (spec.x[0], groups * c, *spec.x[2:])
    check_open(replace(spec, x=x, w=(groups * n, c, *spec.w[2:]), groups=groups), 0, STEPS)


@pytest.mark.parametrize("c, n", [(4, 36), (1, 41)])
def test_many_blocks(c, n):
    spec = ConvSpec(
        "float32", (2, 8 * c, 31, 29), (8 * n, c, 3, 3), (1, 1), (1,) * 4, (1, 1), groups=8
    )
    rows = block_rows(Geometry(spec), AVX2)
    assert 2 * 31 * 29 % rows and rows < 2 * 31 * 29 / 7
    assert not is_narrow(Geometry(spec), AVX2)
    check(spec, 0, STEPS)
    check_open(spec, 0, STEPS)


def test_blocks_stay_in_the_cache():
    spec = ConvSpec("float32", (1, 128, 64, 64), (128, 4, 3, 3), (1, 1), (1,) * 4, (1, 1), 32)
    g = Geometry(spec)
    assert block_rows(g, AVX2) * g.channels * 3 * np.dtype("f4").itemsize <= AVX2.l2_bytes // 2
