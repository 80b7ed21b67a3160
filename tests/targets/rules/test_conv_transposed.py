from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.convolutions import BATCHES, floats
from tests.targets.rules.lowering import close, run, run_open
from tilewright.ops import ConvSpec, Step
from tilewright.targets.rules.conv_transposed import Phase, phases


def _reference(x: np.ndarray, w: np.ndarray, spec: ConvSpec) -> np.ndarray:
    """Every input scatters its multiple of the kernel, whatever the number of axes; float64."""
    size, kernel, n, rank = x.shape[2:], w.shape[2:], w.shape[1], x.ndim - 2
    axes = list(zip(size, kernel, spec.strides, spec.dilation, strict=True))
    reach = [(s - 1) * stride + (k - 1) * d + 1 for s, k, stride, d in axes]
    full = [r + more for r, more in zip(reach, spec.output_padding, strict=True)]
    out = np.zeros((x.shape[0], n * spec.groups, *full))
    for g, (part, taps) in enumerate(
        zip(np.split(x.astype("f8"), spec.groups, 1), np.split(w, spec.groups), strict=True)
    ):
        for tap in np.ndindex(*kernel):
            places = tuple(
                slice(i * d, i * d + (s - 1) * stride + 1, stride)
                for i, (s, _, stride, d) in zip(tap, axes, strict=True)
            )
            out[(slice(None), slice(g * n, (g + 1) * n), *places)] += np.einsum(
                "bc...,cn->bn...", part, taps[(..., *tap)]
            )
    begins, ends = spec.padding[:rank], spec.padding[rank:]
    kept = (slice(b, size - e) for b, e, size in zip(begins, ends, full, strict=True))
    return out[(..., *kept)]


@st.composite
def _specs(draw) -> ConvSpec:
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    groups = draw(st.integers(1, 3))
    size = (draw(st.integers(3, 8)), draw(st.integers(3, 8)))
    # Some result is left when the pads are cut off.
    padding = tuple(draw(st.integers(0, 1)) for _ in range(4))
    more = tuple(draw(st.integers(0, s - 1)) for s in strides)
    return ConvSpec(
        "float32",
        (draw(st.integers(1, 2)), groups * draw(st.integers(1, 9)), *size),
        (0, draw(st.integers(1, 19)), *kernel),
        strides,
        padding,
        dilation,
        groups,
        transposed=True,
        output_padding=more,
        epilogue=(Step("bias"), Step("residual"), Step("relu")),
    )


def _plain(x, w, strides, padding, groups=1) -> ConvSpec:
    more = (0, 0)
    return ConvSpec(
        "float32", x, w, strides, padding, (1, 1), groups, transposed=True, output_padding=more
    )


@settings(max_examples=examples(4), deadline=None)
@example(_plain((1, 16, 9, 7), (0, 24, 2, 2), (2, 2), (0,) * 4), 0)
@example(_plain((1, 5, 6, 6), (0, 9, 1, 2), (3, 3), (0,) * 4), 0)
@example(_plain((2, 3, 4, 5), (0, 4, 4, 4), (2, 2), (1,) * 4), 0)
# Phases without taps, of groups.
@example(_plain((3, 2, 3, 3), (0, 1, 2, 2), (3, 3), (0,) * 4, groups=2), 0)
@given(spec=_specs(), seed=st.integers(0, 9))
def test_any_transposed_convolution(spec, seed):
    fields = vars(spec) | {"w": (spec.x[1], *spec.w[1:])}
    x, w = floats(seed, spec.x, fields["w"])
    exact = _reference(x, w, spec)
    arrays = {}
    if spec.epilogue:
        bias, residual = floats(seed + 1, (1, exact.shape[1], 1, 1), exact.shape)
        arrays = {"bias": bias, "residual": residual}
        exact = np.maximum(exact + bias + residual, 0)
    name, y = run(ConvSpec(**fields), exact.shape, x=x, w=w, **arrays)
    assert name == "conv_transposed"
    close(y, exact, w.size // w.shape[1])


@settings(max_examples=examples(4), deadline=None)
@given(spec=_specs(), seed=st.integers(0, 9))
def test_any_transposed_convolution_of_an_open_batch(spec, seed):
    spec = replace(spec, w=(spec.x[1], *spec.w[1:]))
    x, w = floats(seed, (max(BATCHES), *spec.x[1:]), spec.w)
    exact = _reference(x, w, spec)
    bias, residual = floats(seed + 1, (1, exact.shape[1], 1, 1), exact.shape)
    exact = np.maximum(exact + bias + residual, 0)
    each = [{"x": x[:n], "w": w, "bias": bias, "residual": residual[:n]} for n in BATCHES]
    opened = replace(spec, x=("n", *spec.x[1:]))
    name, results = run_open(opened, ("n", *exact.shape[1:]), each)
    assert name == "conv_transposed"
    for y, n in zip(results, BATCHES, strict=True):
        close(y, exact[:n], w.size // w.shape[1])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("size", "kernel", "strides", "padding", "dilation", "more"),
    [
        ((11,), (3,), (2,), (1, 1), (1,), (1,)),
        ((3, 4, 5), (2, 2, 2), (2, 2, 2), (0,) * 6, (1, 1, 1), (0, 0, 0)),
        ((3, 5, 4), (3, 3, 3), (2, 2, 2), (1,) * 6, (1, 1, 1), (1, 1, 1)),
        ((2, 3, 7), (1, 4, 3), (1, 3, 2), (0, 1, 0, 0, 0, 1), (1, 2, 2), (0, 2, 0)),
        # Phases without taps.
        ((2, 3, 3), (1, 2, 1), (2, 3, 2), (0,) * 6, (1, 1, 1), (0, 0, 0)),
    ],
)
def test_one_axis_and_three(size, kernel, strides, padding, dilation, more, groups):
    c, n = 6, 9
    x, w = floats(0, (2, c, *size), (c, n, *kernel))
    bias = floats(1, (n * groups,))[0]
    spec = ConvSpec(
        *("float32", x.shape, w.shape, strides, padding, dilation, groups),
        transposed=True,
        output_padding=more,
        epilogue=(Step("bias"),),
    )
    exact = _reference(x, w, spec) + bias.reshape(-1, *(1,) * len(size))
    name, y = run(spec, exact.shape, x=x, w=w, bias=bias)
    assert name == "conv_transposed"
    close(y, exact, w.size // n)


def test_an_output_that_nothing_reaches_is_the_bias():
    x, w = floats(0, (1, 3, 2, 2), (3, 4, 1, 1))
    x[0, 0, 0, 0] = np.nan
    spec = _plain(x.shape, w.shape, (2, 2), (0,) * 4)
    _, y = run(spec, (1, 4, 3, 3), x=x, w=w)
    assert not y[:, :, 1].any() and np.isnan(y).sum() == 4


@pytest.mark.parametrize(
    "axis, expected",
    [
        ((6, 2, 2, 1, 0), [Phase(0, 3, (0,), (0,)), Phase(1, 3, (1,), (0,))]),
        ((8, 4, 2, 1, 1), [Phase(0, 4, (3, 1), (-1, 0)), Phase(1, 4, (2, 0), (0, 1))]),
        ((5, 1, 2, 1, 0), [Phase(0, 3, (0,), (0,)), Phase(1, 2, (), ())]),
    ],
)
def test_phases_of_an_axis(axis, expected):
    assert phases(*axis) == expected
