from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from tests.targets.rules.lowering import close, run
from tilewright.ops import ConcatSpec, ConvChainSpec, ConvSpec, SqueezeExcitationSpec, Step


def reference(x, w, spec: ConvSpec) -> np.ndarray:
    """The convolution of float64 x, w [out, in / groups, kh, kw]; no epilogue."""
    (top, left), (bottom, right) = spec.padding[:2], spec.padding[2:]
    padded = np.pad(x.astype("f8"), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (kh, kw), (dh, dw) = w.shape[2:], spec.dilation
    windows = sliding_window_view(padded, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), axis=(2, 3))
    windows = windows[:, :, :: spec.strides[0], :: spec.strides[1], ::dh, ::dw]
    outs = []
    for part, taps in zip(
        np.split(windows, spec.groups, 1), np.split(w.astype("f8"), spec.groups), strict=True
    ):
        outs.append(np.einsum("ncyxhw,ochw->noyx", part, taps, optimize=True))
    return np.concatenate(outs, 1)


def _floats(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, dtype="float32") for shape in shapes]


@st.composite
def _specs(draw, depthwise: bool) -> ConvSpec:
    c, height, width = draw(st.integers(1, 19)), draw(st.integers(3, 17)), draw(st.integers(3, 17))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    for axis, size in enumerate((height, width)):
        span = (kernel[axis] - 1) * dilation[axis] + 1
        if size + padding[axis] + padding[axis + 2] < span:
            kernel = tuple(1 if a == axis else k for a, k in enumerate(kernel))
    groups = max(2, c) if depthwise else 1
    c = groups if depthwise else c
    out = groups if depthwise else draw(st.integers(1, 35))
    return ConvSpec(
        "float32",
        (draw(st.integers(1, 2)), c, height, width),
        (out, c // groups, *kernel),
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding,
        dilation,
        groups,
    )


def _check(spec: ConvSpec, seed: int, steps: tuple[Step, ...]) -> None:
    x, w = _floats(seed, spec.x, spec.w)
    exact = reference(x, w, spec)
    bias, residual = _floats(seed + 1, (1, spec.w[0], 1, 1), exact.shape)
    spec = ConvSpec(**{**vars(spec), "epilogue": steps})
    _, y = run(spec, exact.shape, x=x, w=w, bias=bias, residual=residual)
    for step in steps:
        exact = {
            "bias": lambda v: v + bias,
            "residual": lambda v: v + residual,
            "clip": lambda v: np.clip(v, *step.parameters),
        }[step.name](exact)
    close(y, exact, int(np.prod(spec.w[1:])))


STEPS = (Step("bias"), Step("residual"), Step("clip", (-1.0, 2.0)))


@settings(max_examples=20, deadline=None)
@given(spec=_specs(depthwise=False), seed=st.integers(0, 9))
def test_any_convolution(spec, seed):
    _check(spec, seed, STEPS)


@settings(max_examples=20, deadline=None)
@given(spec=_specs(depthwise=True), seed=st.integers(0, 9))
def test_any_depthwise_convolution(spec, seed):
    _check(spec, seed, STEPS)


@pytest.mark.parametrize("size", [(7, 49), (14, 27)])
def test_many_tiles(size):
    _check(ConvSpec("float32", (2, 40, *size), (72, 40, 3, 3), (1, 1), (1,) * 4, (1, 1)), 0, STEPS)


def test_one_axis():
    x, w = _floats(0, (2, 6, 21), (9, 6, 3))
    spec = ConvSpec("float32", x.shape, w.shape, (2,), (1, 1), (1,))
    flat = ConvSpec("float32", (2, 6, 1, 21), (9, 6, 1, 3), (1, 2), (0, 1, 0, 1), (1, 1))
    exact = reference(x[:, :, None], w[:, :, None], flat)[:, :, 0]
    _, y = run(spec, exact.shape, x=x, w=w)
    close(y, exact, 18)


def test_max_pool_in_the_group():
    x, w = _floats(0, (1, 3, 19, 23), (12, 3, 3, 3))
    pool = Step("max_pool", (3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0))
    spec = ConvSpec("float32", x.shape, w.shape, (2, 2), (1,) * 4, (1, 1), epilogue=(pool,))
    wide = np.pad(reference(x, w, spec), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    exact = sliding_window_view(wide, (3, 3), (2, 3))[:, :, ::2, ::2].max((4, 5))
    _, y = run(spec, exact.shape, x=x, w=w)
    close(y, exact, 27)


def test_a_nan_goes_through():
    x, w = _floats(0, (1, 9, 8, 8), (9, 1, 3, 3))
    x[0, 4, 3, 3] = np.nan
    spec = ConvSpec(
        "float32", x.shape, w.shape, (1, 1), (1,) * 4, (1, 1), 9, epilogue=(Step("relu"),)
    )
    _, y = run(spec, x.shape, x=x, w=w)
    assert np.isnan(y[0, 4, 2:5, 2:5]).all() and np.isnan(y).sum() == 9


def test_squeeze_excitation():
    x, w1, b1, w2, b2, w = _floats(
        3, (2, 20, 5, 6), (6, 20, 1, 1), (1, 6, 1, 1), (20, 6, 1, 1), (1, 20, 1, 1), (11, 20, 1, 1)
    )
    projection = ConvSpec("float32", x.shape, w.shape, (1, 1), (0,) * 4, (1, 1))
    spec = SqueezeExcitationSpec(
        "float32", x.shape, 6, (True, True), Step("relu"), Step("sigmoid"), projection
    )
    name, y = run(spec, (2, 11, 5, 6), x=x, w1=w1, b1=b1, w2=w2, b2=b2, w=w)
    mean = x.astype("f8").mean((2, 3))
    inner = np.maximum(mean @ w1[:, :, 0, 0].T + b1.reshape(-1), 0)
    gate = 1 / (1 + np.exp(-(inner @ w2[:, :, 0, 0].T + b2.reshape(-1))))
    assert name == "squeeze_excitation"
    close(y, reference(x * gate[:, :, None, None], w, projection), 20)


def test_chain():
    x, first_w, w = _floats(4, (1, 5, 9, 9), (12, 5, 1, 1), (12, 1, 3, 3))
    first = ConvSpec(
        "float32", x.shape, first_w.shape, (1, 1), (0,) * 4, (1, 1), epilogue=(Step("relu"),)
    )
    second = ConvSpec("float32", (1, 12, 9, 9), w.shape, (2, 2), (1,) * 4, (1, 1), 12)
    spec = ConvChainSpec("float32", first, second)
    exact = reference(np.maximum(reference(x, first_w, first), 0), w, second)
    name, y = run(spec, exact.shape, x=x, first_w=first_w, w=w)
    assert name == "conv_chain"
    close(y, exact, 20)


def test_concat():
    a, b, w0, w2 = _floats(5, (1, 4, 6, 6), (1, 3, 6, 6), (5, 4, 1, 1), (7, 4, 3, 3))
    parts = (
        ConvSpec("float32", a.shape, w0.shape, (1, 1), (0,) * 4, (1, 1)),
        b.shape,
        ConvSpec("float32", a.shape, w2.shape, (1, 1), (1,) * 4, (1, 1)),
    )
    exact = np.concatenate([reference(a, w0, parts[0]), b, reference(a, w2, parts[2])], 1)
    arrays = {"0_x": a, "0_w": w0, "1_value": b, "2_x": a, "2_w": w2}
    name, y = run(ConcatSpec("float32", parts), exact.shape, **arrays)
    assert name == "conv_concat"
    close(y, exact, 36)
