from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from tests.examples import examples
from tests.targets.rules.convolutions import STEPS, check, check_open, conv_specs, floats, reference
from tests.targets.rules.lowering import AVX2, close, group, run
from tilewright.ops import ConvSpec, Step
from tilewright.targets.rules.conv import CONV, blocking_of
from tilewright.targets.rules.geometry import Geometry


@settings(max_examples=examples(14), deadline=None)
@given(spec=conv_specs(depthwise=False), seed=st.integers(0, 9))
def test_any_convolution(spec, seed):
    check(spec, seed, STEPS)


@settings(max_examples=examples(8), deadline=None)
@given(spec=conv_specs(depthwise=False), seed=st.integers(0, 9))
def test_any_convolution_of_an_open_batch(spec, seed):
    check_open(spec, seed, STEPS)


@pytest.mark.parametrize("checked", [check, check_open])
@pytest.mark.parametrize("size", [(7, 49), (14, 27)])
def test_many_tiles(size, checked):
    checked(ConvSpec("float32", (2, 40, *size), (72, 40, 3, 3), (1, 1), (1,) * 4, (1, 1)), 0, STEPS)


@pytest.mark.parametrize(
    ("x", "kernel", "dilation", "parts"),
    [
        ((2, 256, 9, 11), (3, 3), 1, 6),
        ((1, 640, 12, 9), (1, 1), 1, 2),
        ((1, 270, 9, 9), (2, 2), 2, 4),
    ],
)
def test_windows_are_summed_in_parts(x, kernel, dilation, parts):
    """Rows of a window, parts of such rows, and taps that are apart."""
    spec = ConvSpec("float32", x, (32, x[1], *kernel), (1, 1), (1,) * 4, (dilation,) * 2)
    assert blocking_of("k", Geometry(spec), AVX2).parts == parts
    check(spec, 0, STEPS)
    check_open(spec, 0, STEPS)


def test_one_axis():
    x, w = floats(0, (2, 6, 21), (9, 6, 3))
    spec = ConvSpec("float32", x.shape, w.shape, (2,), (1, 1), (1,))
    flat = ConvSpec("float32", (2, 6, 1, 21), (9, 6, 1, 3), (1, 2), (0, 1, 0, 1), (1, 1))
    exact = reference(x[:, :, None], w[:, :, None], flat)[:, :, 0]
    _, y = run(spec, exact.shape, x=x, w=w)
    close(y, exact, 18)


def test_max_pool_in_the_group():
    x, w = floats(0, (1, 3, 19, 23), (12, 3, 3, 3))
    pool = Step("max_pool", (3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0))
    spec = ConvSpec("float32", x.shape, w.shape, (2, 2), (1,) * 4, (1, 1), epilogue=(pool,))
    wide = np.pad(reference(x, w, spec), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    exact = sliding_window_view(wide, (3, 3), (2, 3))[:, :, ::2, ::2].max((4, 5))
    _, y = run(spec, exact.shape, x=x, w=w)
    close(y, exact, 27)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"dtype": "float16"}, "dtype float16"),
        ({"x": ("n", 4, 5, "w")}, "its spatial sizes are open"),
        ({"x": ("n", "c", 5, 5)}, "its channels are open"),
        ({"transposed": True}, "it is transposed"),
        ({"epilogue": (Step("transpose", (0, 2, 3, 1)),)}, "is not done in a store"),
    ],
)
def test_refuses(changed, reason):
    fields = {"dtype": "float32", "x": (1, 4, 5, 5), "w": (4, 4, 1, 1)}
    spec = ConvSpec(
        **{**fields, "strides": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), **changed}
    )
    (w,) = floats(0, (4, 4, 1, 1))
    assert reason in CONV.refuses(group(spec, (1, 4, 5, 5), w=w), AVX2)
