from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.passes.graphs import calls, module, run
from tilewright.passes.fold_batch_norm import fold_batch_norm

RNG = np.random.default_rng(5)
W = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
GAMMA, BETA, MEAN = (RNG.standard_normal(4).astype(np.float32) for _ in range(3))
VAR = RNG.uniform(0.5, 2, 4).astype(np.float32)
BIAS = RNG.standard_normal((1, 4, 1, 1)).astype(np.float32)
EPSILON = 1e-3
X = RNG.standard_normal((1, 3, 6, 6)).astype(np.float32)
SCALE = GAMMA.astype(np.float64) / np.sqrt(VAR.astype(np.float64) + EPSILON)

const = relax.const


def _norm(bb, x, axis=1, parts=None, **attrs):
    stats = parts or [const(GAMMA), const(BETA), const(MEAN), const(VAR)]
    attrs = {"training": False, **attrs}
    norm = bb.emit(relax.op.nn.batch_norm(x, *stats, axis=axis, epsilon=EPSILON, **attrs))
    return bb.emit(relax.TupleGetItem(norm, 0))


def _conv(bb, x, **attrs):
    return bb.emit(relax.op.nn.conv2d(x, const(W), **attrs))


def _after(build, **shapes):
    return fold_batch_norm(module(build, **shapes or {"x": (1, 3, 6, 6)}))


def _plain(build, *arrays, **shapes):
    """What the module without the pass answers."""
    return run(
        relax.transform.DecomposeOpsForInference()(module(build, **shapes or {"x": (1, 3, 6, 6)})),
        *arrays,
    )


def _per_channel(values: np.ndarray, rank: int = 4) -> np.ndarray:
    return values.reshape([1, -1, *[1] * (rank - 2)]).astype(np.float32)


def test_folds_into_a_convolution():
    after = _after(lambda bb, x: _norm(bb, _conv(bb, x, padding=1)))
    scaled = (W * SCALE.reshape(-1, 1, 1, 1)).astype(np.float32)

    def expected(bb, x):
        y = bb.emit(relax.op.nn.conv2d(x, const(scaled), padding=1))
        return bb.emit(relax.op.add(y, const(_per_channel(BETA - MEAN * SCALE))))

    tvm.ir.assert_structural_equal(after, module(expected, x=(1, 3, 6, 6)))


def test_folds_into_a_convolution_with_bias():
    def build(bb, x):
        return _norm(bb, bb.emit(relax.op.add(_conv(bb, x), const(BIAS))))

    after = _after(build)
    assert calls(after) == ["relax.nn.conv2d", "relax.add"]
    np.testing.assert_allclose(run(after, X), _plain(build, X), rtol=1e-4, atol=1e-5)


def test_a_norm_on_its_own_becomes_one_multiply_and_one_add():
    build = lambda bb, x: _norm(bb, x)  # noqa: E731
    after = _after(build, x=(1, 4, 5, 5))

    def expected(bb, x):
        y = bb.emit(relax.op.multiply(x, const(_per_channel(SCALE))))
        return bb.emit(relax.op.add(y, const(_per_channel(BETA - MEAN * SCALE))))

    tvm.ir.assert_structural_equal(after, module(expected, x=(1, 4, 5, 5)))
    x = RNG.standard_normal((1, 4, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(
        run(after, x), _plain(build, x, x=(1, 4, 5, 5)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_keeps_numbers(center, scale, groups):
    w = const(W[:, :2] if groups == 2 else W)
    shape = (2, 4 if groups == 2 else 3, 7, 7)
    build = lambda bb, x: _norm(  # noqa: E731
        bb,
        bb.emit(relax.op.nn.conv2d(x, w, strides=2, padding=[1, 0, 1, 2], groups=groups)),
        center=center,
        scale=scale,
    )
    x = RNG.standard_normal(shape).astype(np.float32)
    after = _after(build, x=shape)
    assert calls(after) == ["relax.nn.conv2d", "relax.add"]
    np.testing.assert_allclose(run(after, x), _plain(build, x, x=shape), rtol=1e-4, atol=1e-5)


def test_keeps_attributes_of_the_convolution():
    after = _after(lambda bb, x: _norm(bb, _conv(bb, x, strides=2, dilation=2, padding=2)))
    attrs = after["main"].body.blocks[0].bindings[0].value.attrs
    assert [int(s) for s in attrs.strides] == [2, 2]
    assert [int(d) for d in attrs.dilation] == [2, 2]
    assert [int(p) for p in attrs.padding] == [2, 2, 2, 2]


def test_declines_when_the_convolution_has_a_second_reader():
    def build(bb, x):
        y = _conv(bb, x)
        return bb.emit(relax.op.add(_norm(bb, y), y))

    after = _after(build)
    assert calls(after) == ["relax.nn.conv2d", "relax.multiply", "relax.add", "relax.add"]
    np.testing.assert_allclose(run(after, X), _plain(build, X), rtol=1e-4, atol=1e-5)


def test_declines_when_the_biased_convolution_has_a_second_reader():
    def build(bb, x):
        y = _conv(bb, x)
        biased = bb.emit(relax.op.add(y, const(BIAS)))
        return bb.emit(relax.op.add(_norm(bb, biased), y))

    after = _after(build)
    assert "relax.multiply" in calls(after)
    np.testing.assert_allclose(run(after, X), _plain(build, X), rtol=1e-4, atol=1e-5)


def test_declines_when_the_convolution_is_an_output():
    def build(bb, x):
        y = _conv(bb, x)
        return relax.Tuple([_norm(bb, y), y])

    after = _after(build)
    assert "relax.multiply" in calls(after)
    for ours, theirs in zip(run(after, X), _plain(build, X), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_declines_when_statistics_are_computed_at_run_time():
    before = module(
        lambda bb, x, mean: _norm(bb, x, parts=[const(GAMMA), const(BETA), mean, const(VAR)]),
        x=(1, 4, 5, 5),
        mean=(4,),
    )
    tvm.ir.assert_structural_equal(fold_batch_norm(before), before)


def test_declines_in_training_mode():
    before = module(lambda bb, x: _norm(bb, x, training=True), x=(1, 4, 5, 5))
    tvm.ir.assert_structural_equal(fold_batch_norm(before), before)


def test_declines_when_the_weights_are_computed_at_run_time():
    build = lambda bb, x, w: _norm(bb, bb.emit(relax.op.nn.conv2d(x, w)))  # noqa: E731
    shapes = {"x": (1, 3, 6, 6), "w": W.shape}
    after = _after(build, **shapes)
    assert calls(after) == ["relax.nn.conv2d", "relax.multiply", "relax.add"]
    np.testing.assert_allclose(
        run(after, X, W), _plain(build, X, W, **shapes), rtol=1e-4, atol=1e-5
    )


def test_declines_a_norm_over_another_axis_than_the_channels():
    build = lambda bb, x: _norm(bb, _conv(bb, x), axis=2)  # noqa: E731
    after = _after(build)  # The result has 4 channels, 4 rows and 4 columns.
    assert calls(after) == ["relax.nn.conv2d", "relax.multiply", "relax.add"]
    np.testing.assert_allclose(run(after, X), _plain(build, X), rtol=1e-4, atol=1e-5)


def test_declines_a_bias_that_is_no_bias():
    """A full-size addend, or one along another axis, must not move through the norm's shift."""
    wide = RNG.standard_normal((1, 1, 1, 4)).astype(np.float32)  # 4 values, along the width

    def build(bb, x):
        return _norm(bb, bb.emit(relax.op.add(_conv(bb, x), const(wide))))

    np.testing.assert_allclose(run(_after(build), X), _plain(build, X), rtol=1e-4, atol=1e-5)


def test_a_bias_of_one_number_is_a_bias_of_each_channel():
    def build(bb, x):
        return _norm(bb, bb.emit(relax.op.add(_conv(bb, x), const(np.float32(3)))))

    np.testing.assert_allclose(run(_after(build), X), _plain(build, X), rtol=1e-4, atol=1e-5)


def test_one_channel_and_a_full_size_addend():
    """Every size is 1 x n here: the number of values alone does not make a bias."""
    w, one = W[:1], [const(np.float32([v])) for v in (1.5, 0.5, 0.25, 2.0)]
    wide = RNG.standard_normal((1, 1, 1, 1)).astype(np.float32)

    def build(bb, x):
        y = bb.emit(relax.op.nn.conv2d(x, const(w)))
        return _norm(bb, bb.emit(relax.op.add(y, const(wide))), parts=one)

    np.testing.assert_allclose(run(_after(build), X), _plain(build, X), rtol=1e-4, atol=1e-5)
