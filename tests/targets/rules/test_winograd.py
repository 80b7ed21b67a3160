from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiling import compile_here
from tests.examples import examples
from tests.net import Net
from tests.targets.rules.convolutions import STEPS, floats, open_problems, reference
from tests.targets.rules.lowering import AVX2, close, group, launched_open
from tilewright.ops import ConvSpec, Step
from tilewright.passes.channels_last import to_second
from tilewright.targets import resolve
from tilewright.targets.rules import conv
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.rule import Given, Names
from tilewright.targets.rules.winograd import WINOGRAD, best_size, block_rows, winograd
from tilewright.targets.rules.winograd_tiles import Tiling
from tilewright.verification.budget import SAFETY, unit_roundoff

UNIT = unit_roundoff(np.float32)


def _spec(batch: int, c: int, n: int, size: tuple[int, int], padding=(1,) * 4) -> ConvSpec:
    return ConvSpec("float32", (batch, c, *size), (n, c, 3, 3), (1, 1), padding, (1, 1))


@st.composite
def _specs(draw) -> ConvSpec:
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    size = tuple(draw(st.integers(3, 15)) for _ in range(2))
    c, n = draw(st.integers(1, 21)), draw(st.integers(1, 35))
    return _spec(draw(st.integers(1, 3)), c, n, size, padding)


def _run(spec: ConvSpec, size: int, steps: tuple[Step, ...], **arrays: np.ndarray) -> np.ndarray:
    return _run_each(replace(spec, epilogue=steps), size, [arrays])[0]


def _run_each(spec: ConvSpec, size: int, each: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """One compilation of `spec`, with each of the arguments."""
    call = group(spec, (), **each[0])
    x, tiling = Given("x", channels_last=True), Tiling(Geometry(spec), size)
    launches = winograd(
        Names("w"), x, each[0]["w"], tiling, spec.epilogue, conv.operands(call), AVX2
    )
    return [y.transpose(to_second(4)) for y in launched_open(launches, each, AVX2)]


def _check_open(spec: ConvSpec, size: int, seed: int) -> None:
    opened, each, exact = open_problems(spec, seed, STEPS)
    for y, expected in zip(_run_each(opened, size, each), exact, strict=True):
        close(y, expected, 25 * 9 * spec.x[1])


@settings(max_examples=examples(8), deadline=None)
@given(spec=_specs(), size=st.sampled_from([2, 4]), seed=st.integers(0, 9))
def test_any_size_and_padding(spec, size, seed):
    x, w = floats(seed, spec.x, spec.w)
    exact = reference(x, w, spec)
    bias, residual = floats(seed + 1, (1, spec.w[0], 1, 1), exact.shape)
    y = _run(spec, size, STEPS, x=x, w=w, bias=bias, residual=residual)
    # Five times the plain sum's error is 25 times as many terms.
    close(y, np.clip(exact + bias + residual, -1, 2), 25 * 9 * spec.x[1])


@settings(max_examples=examples(4), deadline=None)
@given(spec=_specs(), size=st.sampled_from([2, 4]), seed=st.integers(0, 9))
def test_any_size_and_padding_of_an_open_batch(spec, size, seed):
    _check_open(spec, size, seed)


def test_blocks_of_tiles_of_an_open_batch():
    spec = _spec(1, 5, 70, (61, 57))
    assert block_rows(Tiling(Geometry(replace(spec, x=("n", *spec.x[1:]))), 4), AVX2) is not None
    _check_open(spec, 4, 0)


@pytest.mark.parametrize("c, n", [(5, 70), (16, 16)])
def test_blocks_of_tiles(c, n):
    spec = _spec(2, c, n, (45, 41))
    assert block_rows(Tiling(Geometry(spec), 4), AVX2) is not None
    x, w = floats(3, spec.x, spec.w)
    close(_run(spec, 4, (), x=x, w=w), reference(x, w, spec), 25 * 9 * c)


@pytest.mark.parametrize("size, share", [(2, 0.06), (4, 0.2)])
@pytest.mark.parametrize("c", [16, 64, 512])
def test_errs_by_a_small_share_of_the_budget(size, share, c):
    """The shares that docs/verification.md states."""
    spec = _spec(1, c, 16, (16, 16))
    x, w = floats(5, spec.x, spec.w)
    exact = reference(x, w, spec)
    error = np.abs(_run(spec, size, (), x=x, w=w) - exact).max() / np.abs(exact).max()
    assert error < share * SAFETY * UNIT * (9 * c) ** 0.5


def test_a_nan_reaches_every_output_that_reads_it():
    spec = _spec(1, 8, 8, (8, 8))
    x, w = floats(0, spec.x, spec.w)
    x[0, 3, 2, 2] = np.nan
    y = _run(spec, 4, (Step("relu"),), x=x, w=w)
    assert np.isnan(y[:, :, 1:4, 1:4]).all() and not np.isnan(y[:, :, 4:, 4:]).any()


@pytest.mark.parametrize(
    "spec, size",
    [
        (_spec(1, 64, 64, (56, 56)), 4),
        (_spec(1, 256, 256, (14, 14)), 4),
        # Four tiles of 4x4 would read 36 matrices of weights for four rows each.
        (_spec(1, 512, 512, (7, 7)), 2),
        (_spec(1, 3, 32, (224, 224)), None),
        (_spec(1, 8, 8, (14, 14)), None),
    ],
)
def test_the_tile_size_follows_from_the_shape(spec, size):
    assert best_size(Geometry(spec), resolve("zen3")) == size


@pytest.mark.parametrize(
    "changed, exact, reason",
    [
        ({}, True, "exact algorithms"),
        ({"strides": (2, 2)}, False, "no 3x3 convolution"),
        ({"dilation": (2, 2)}, False, "no 3x3 convolution"),
        ({"w": (64, 64, 3, 5)}, False, "no 3x3 convolution"),
        ({"dtype": "float16"}, False, "dtype float16"),
        ({}, False, None),
        ({"x": ("n", 64, 56, 56)}, False, None),
        ({"x": ("n", "c", 56, 56)}, False, "its channels are open"),
    ],
)
def test_refuses(changed, exact, reason):
    spec = replace(_spec(1, 64, 64, (56, 56)), **changed)
    found = WINOGRAD.refuses(replace(group(spec, ()), exact=exact), resolve("zen3"))
    assert found is None if reason is None else reason in found


def test_a_small_reduction_is_left_to_the_direct_loop_nest():
    small = replace(_spec(1, 64, 64, (56, 56)), x=(1, 3, 56, 56), w=(64, 3, 3, 3))
    call, target = replace(group(small, ()), exact=False), resolve("zen3")
    assert WINOGRAD.refuses(call, target) is None
    assert "takes less time" in WINOGRAD.slower(call, target)


def test_only_the_highest_level_uses_it(tmp_path):
    net = Net(x=(1, 64, 28, 28))
    model = net.model(net.Conv("x", net.weight(64, 64, 3, 3), pads=[1] * 4))
    kernels = {
        level: len(
            compile_here(model, tmp_path, until="lower", opt_level=level).mod.get_global_vars()
        )
        for level in (2, 3)
    }
    assert kernels == {2: 3, 3: 4}
