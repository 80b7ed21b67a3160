from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.convolutions import STEPS, check, check_open, conv_specs, floats
from tests.targets.rules.lowering import run
from tests.targets.rules.machine_code import instructions
from tilewright.ops import ConvSpec, Step
from tilewright.targets import resolve
from tilewright.targets.rules.depthwise import Stretch, launch, stretches
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.rule import Given


@settings(max_examples=examples(14), deadline=None)
@given(spec=conv_specs(depthwise=True), seed=st.integers(0, 9))
def test_any_depthwise_convolution(spec, seed):
    check(spec, seed, STEPS)


@settings(max_examples=examples(8), deadline=None)
@given(spec=conv_specs(depthwise=True), seed=st.integers(0, 9))
def test_any_depthwise_convolution_of_an_open_batch(spec, seed):
    check_open(spec, seed, STEPS)


@settings(max_examples=examples(8), deadline=None)
@given(
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    kernel=st.tuples(st.integers(6, 13), st.integers(4, 13)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    more=st.tuples(*[st.integers(0, 3)] * 2),
    seed=st.integers(0, 9),
)
def test_any_large_kernel(size, kernel, strides, dilation, more, seed):
    """All padded so far that they fit, and some more; lines miss taps at both ends."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    begins = tuple(r // 2 + m for r, m in zip(reach, more, strict=True))
    ends = tuple(max(0, r - s - b) for r, s, b in zip(reach, size, begins, strict=True))
    padding = (*begins, *ends)
    spec = ConvSpec("float32", (1, 11, *size), (11, 1, *kernel), strides, padding, dilation, 11)
    check(spec, seed, STEPS)


def test_a_large_kernel_is_not_written_out():
    (w,) = floats(0, (16, 1, 31, 31))
    spec = ConvSpec("float32", (1, 16, 28, 28), w.shape, (1, 1), (15,) * 4, (1, 1), 16)
    name, target = "depthwise", resolve("x86-64-avx2")
    kernel = launch(name, Given("x"), Geometry(spec), w, (), (), target).kernel
    assert len(instructions(kernel, target.name)) < 5000


def test_a_nan_goes_through():
    x, w = floats(0, (1, 9, 8, 8), (9, 1, 3, 3))
    x[0, 4, 3, 3] = np.nan
    spec = ConvSpec(
        "float32", x.shape, w.shape, (1, 1), (1,) * 4, (1, 1), 9, epilogue=(Step("relu"),)
    )
    _, y = run(spec, x.shape, x=x, w=w)
    assert np.isnan(y[0, 4, 2:5, 2:5]).all() and np.isnan(y).sum() == 9


def test_stretches_of_an_axis():
    # Five inputs, three taps, one zero before: the first output misses tap 0, the last tap 2.
    assert stretches(5, 5, 3, 1, 1, 1) == [
        Stretch(0, 1, 1, 3),
        Stretch(1, 4, 0, 3),
        Stretch(4, 5, 0, 2),
    ]


@given(
    size=st.integers(1, 12),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    begin=st.integers(0, 4),
    out=st.integers(1, 12),
)
def test_stretches_name_the_taps_inside(size, kernel, stride, dilation, begin, out):
    found = stretches(size, out, kernel, stride, dilation, begin)
    assert [s.start for s in found] == [0, *(s.stop for s in found[:-1])] and found[-1].stop == out
    for stretch in found:
        for at in range(stretch.start, stretch.stop):
            inside = [k for k in range(kernel) if 0 <= at * stride - begin + k * dilation < size]
            assert inside == list(range(stretch.first, stretch.last))
