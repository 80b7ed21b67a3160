"""Convolutions to draw, and what they should give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from tests.targets.rules.lowering import close, run, run_open
from tilewright.ops import ConvSpec, Step

# Numbers of images that one compilation for an open batch is tried with.
BATCHES = (1, 2, 3, 5)
STEPS = (Step("bias"), Step("residual"), Step("clip", (-1.0, 2.0)))


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


def floats(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, dtype="float32") for shape in shapes]


@st.composite
def conv_specs(draw, depthwise: bool) -> ConvSpec:
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


def problem(
    spec: ConvSpec, seed: int, steps: tuple[Step, ...]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arguments of a convolution with `steps`, by role, and its float64 result."""
    x, w = floats(seed, spec.x, spec.w)
    exact = reference(x, w, spec)
    bias, residual = floats(seed + 1, (1, spec.w[0], 1, 1), exact.shape)
    for step in steps:
        if step.name == "clip":
            exact = np.clip(exact, *step.parameters)
        else:
            exact = exact + {"bias": bias, "residual": residual}[step.name]
    return {"x": x, "w": w, "bias": bias, "residual": residual}, exact


def check(spec: ConvSpec, seed: int, steps: tuple[Step, ...]) -> None:
    arrays, exact = problem(spec, seed, steps)
    _, y = run(replace(spec, epilogue=steps), exact.shape, **arrays)
    close(y, exact, int(np.prod(spec.w[1:])))


def open_problems(
    spec: ConvSpec, seed: int, steps: tuple[Step, ...]
) -> tuple[ConvSpec, list[dict[str, np.ndarray]], list[np.ndarray]]:
    """`spec` with an open batch; arguments and float64 results for each of BATCHES."""
    arrays, exact = problem(replace(spec, x=(max(BATCHES), *spec.x[1:])), seed, steps)
    each = [
        arrays | {role: arrays[role][:batch] for role in ("x", "residual")} for batch in BATCHES
    ]
    opened = replace(spec, x=("n", *spec.x[1:]), epilogue=steps)
    return opened, each, [exact[:batch] for batch in BATCHES]


def check_open(spec: ConvSpec, seed: int, steps: tuple[Step, ...]) -> None:
    """One compilation of `spec` with an open batch is right for any number of images."""
    opened, each, exact = open_problems(spec, seed, steps)
    _, results = run_open(opened, ("n", *exact[0].shape[1:]), each)
    for y, expected in zip(results, exact, strict=True):
        close(y, expected, int(np.prod(spec.w[1:])))
