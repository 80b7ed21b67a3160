from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.convolutions import BATCHES, floats, reference
from tests.targets.rules.lowering import AVX2, close, group, run, run_open
from tilewright.ops import ConcatSpec, ConvChainSpec, ConvSpec, Spec, Step
from tilewright.targets.rules.composite import CONCAT


def test_chain():
    x, first_w, w = floats(4, (max(BATCHES), 5, 9, 9), (12, 5, 1, 1), (12, 1, 3, 3))
    first = ConvSpec(
        "float32", x.shape, first_w.shape, (1, 1), (0,) * 4, (1, 1), epilogue=(Step("relu"),)
    )
    second = ConvSpec("float32", (x.shape[0], 12, 9, 9), w.shape, (2, 2), (1,) * 4, (1, 1), 12)
    spec = ConvChainSpec("float32", first, second)
    exact = reference(np.maximum(reference(x, first_w, first), 0), w, second)
    name, y = run(spec, exact.shape, x=x, first_w=first_w, w=w)
    assert name == "conv_chain"
    close(y, exact, 20)
    opened = ConvChainSpec("float32", *(replace(s, x=("n", *s.x[1:])) for s in (first, second)))
    each = [{"x": x[:n], "first_w": first_w, "w": w} for n in BATCHES]
    _check_each(opened, exact, each, 20)


def _concat(batch: int, c: int, given_channels: int, outs: tuple[int, int], size: int):
    """Two convolutions of a, 1x1 and 3x3, with b between them: parts, result and arrays."""
    a, b, w0, w2 = floats(
        *(5, (batch, c, size, size), (batch, given_channels, size, size)),
        *((outs[0], c, 1, 1), (outs[1], c, 3, 3)),
    )
    parts = (
        ConvSpec("float32", a.shape, w0.shape, (1, 1), (0,) * 4, (1, 1)),
        b.shape,
        ConvSpec("float32", a.shape, w2.shape, (1, 1), (1,) * 4, (1, 1)),
    )
    exact = np.concatenate([reference(a, w0, parts[0]), b, reference(a, w2, parts[2])], 1)
    return parts, exact, {"0_x": a, "0_w": w0, "1_value": b, "2_x": a, "2_w": w2}


def test_concat():
    parts, exact, arrays = _concat(max(BATCHES), 4, 3, (5, 7), 6)
    name, y = run(ConcatSpec("float32", parts), exact.shape, **arrays)
    assert name == "conv_concat"
    close(y, exact, 36)
    opened = [
        ("n", *part[1:]) if isinstance(part, tuple) else replace(part, x=("n", *part.x[1:]))
        for part in parts
    ]
    roles = ("0_x", "1_value", "2_x")
    each = [arrays | {role: arrays[role][:n] for role in roles} for n in BATCHES]
    _check_each(ConcatSpec("float32", tuple(opened)), exact, each, 36)


def _check_each(spec: Spec, exact: np.ndarray, each: list[dict[str, np.ndarray]], terms: int):
    """`exact` is the result for the most images, of which each of `each` has the first ones."""
    _, results = run_open(spec, ("n", *exact.shape[1:]), each)
    for n, y in zip(BATCHES, results, strict=True):
        close(y, exact[:n], terms)


SIZES = st.integers(1, 20)


@settings(max_examples=examples(8), deadline=None)
@given(
    batch=st.integers(1, 2),
    c=SIZES,
    wide=SIZES,
    size=st.tuples(st.integers(3, 13), st.integers(3, 13)),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
)
def test_any_chain(batch, c, wide, size, kernel, stride):
    x, first_w, w = floats(0, (batch, c, *size), (wide, c, 1, 1), (wide, 1, kernel, kernel))
    first = ConvSpec(
        "float32", x.shape, first_w.shape, (1, 1), (0,) * 4, (1, 1), epilogue=(Step("relu"),)
    )
    pads = (kernel // 2,) * 4
    filters = ConvSpec(
        "float32", (batch, wide, *size), w.shape, (stride, stride), pads, (1, 1), wide
    )
    exact = reference(np.maximum(reference(x, first_w, first), 0), w, filters)
    spec = ConvChainSpec("float32", first, filters)
    _, y = run(spec, exact.shape, x=x, first_w=first_w, w=w)
    close(y, exact, kernel * kernel * c)


@settings(max_examples=examples(8), deadline=None)
@given(c=SIZES, given_channels=SIZES, outs=st.tuples(SIZES, SIZES), size=st.integers(3, 9))
def test_any_concat(c, given_channels, outs, size):
    parts, exact, arrays = _concat(1, c, given_channels, outs, size)
    _, y = run(ConcatSpec("float32", parts), exact.shape, **arrays)
    close(y, exact, 9 * c)


def test_refuses_open_positions():
    spec = ConcatSpec("float32", (("n", 3, "h", 6), ("n", 5, "h", 6)))
    call = group(spec, ("n", 8, "h", 6))
    assert "are open" in CONCAT.refuses(call, AVX2)
