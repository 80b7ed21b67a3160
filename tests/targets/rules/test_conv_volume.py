from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from tests.examples import examples
from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import AVX2, close, group, run
from tilewright.ops import ConvSpec, Step
from tilewright.targets.rules.catalogue import lower

STEPS = (Step("bias"), Step("relu"))


def _exact(x, w, spec):
    """In float64; every window as numpy has it."""
    begins, ends = spec.padding[:3], spec.padding[3:]
    x = np.pad(x.astype("f8"), ((0, 0), (0, 0), *zip(begins, ends, strict=True)))
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], spec.dilation, strict=True)]
    windows = sliding_window_view(x, reach, axis=(2, 3, 4))
    (a, b, c), (i, j, k) = spec.strides, spec.dilation
    return np.einsum("ncdhwijk,ocijk->nodhw", windows[:, :, ::a, ::b, ::c, ::i, ::j, ::k], w)


def _check(spec, seed):
    x, w, bias = floats(seed, spec.x, spec.w, (spec.w[0],))
    exact = _exact(x, w, spec) + bias.reshape(-1, 1, 1, 1)
    name, y = run(spec, exact.shape, x=x, w=w, bias=bias)
    assert name == "conv_volume"
    close(y, np.maximum(exact, 0), int(np.prod(spec.w[1:])))


@settings(max_examples=examples(14), deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 9)] * 3),
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    strides=st.tuples(*[st.integers(1, 2)] * 3),
    dilation=st.tuples(*[st.integers(1, 2)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 6),
    channels=st.sampled_from([(1, 5), (3, 8), (16, 19)]),
    batch=st.integers(1, 2),
    seed=st.integers(0, 9),
)
def test_any_convolution(size, kernel, strides, dilation, padding, channels, batch, seed):
    c, n = channels
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padded = [s + a + b for s, a, b in zip(size, padding[:3], padding[3:], strict=True)]
    assume(all(p >= r for p, r in zip(padded, reach, strict=True)))
    _check(
        ConvSpec(
            "float32",
            (batch, c, *size),
            (n, c, *kernel),
            strides,
            padding,
            dilation,
            epilogue=STEPS,
        ),
        seed,
    )


@settings(max_examples=examples(6), deadline=None)
@given(
    groups=st.integers(2, 3),
    channels=st.sampled_from([(4, 3), (5, 8), (16, 19)]),
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    strides=st.tuples(*[st.integers(1, 2)] * 3),
    dilation=st.integers(1, 2),
    seed=st.integers(0, 9),
)
def test_groups(groups, channels, kernel, strides, dilation, seed):
    (c, n), size = channels, (5, 6, 7)
    spec = ConvSpec(
        *("float32", (1, groups * c, *size), (groups * n, c, *kernel), strides, (1,) * 6),
        *((1, 1, dilation), groups),
        epilogue=STEPS,
    )
    x, w, bias = floats(seed, spec.x, spec.w, (spec.w[0],))
    each = zip(np.split(x, groups, 1), np.split(w, groups), strict=True)
    exact = np.concatenate([_exact(part, taps, spec) for part, taps in each], 1)
    exact += bias.reshape(-1, 1, 1, 1)
    name, y = run(spec, exact.shape, x=x, w=w, bias=bias)
    assert name == "conv_volume"
    close(y, np.maximum(exact, 0), int(np.prod(spec.w[1:])))


def test_a_large_one():
    _check(
        ConvSpec(
            *("float32", (1, 40, 7, 13, 14), (72, 40, 3, 3, 3), (1,) * 3, (1,) * 6, (1,) * 3),
            epilogue=STEPS,
        ),
        0,
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"groups": 2, "w": (8, 2, 3, 3, 3)}, "groups"),
        ({"x": (1, 4, 5, "h", 5)}, "open"),
        ({"dtype": "float64"}, "dtype"),
    ],
)
def test_refusals(change, why):
    fields = {"dtype": "float32", "x": (1, 4, 5, 5, 5), "w": (8, 4, 3, 3, 3), **change}
    spec = ConvSpec(
        *(fields.pop(name) for name in ("dtype", "x", "w")), (1,) * 3, (1,) * 6, (1,) * 3, **fields
    )
    x, w = floats(0, (1, 4, 5, 5, 5), spec.w)
    assert why in lower(group(spec, (1, 8, 5, 5, 5), x=x, w=w), AVX2)["conv_volume"]
