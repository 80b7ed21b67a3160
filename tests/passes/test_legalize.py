from __future__ import annotations

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper
from tvm import relax

from tests import models
from tests.compiling import module_of, reference
from tests.passes.graphs import module, run
from tilewright.passes.legalize import LOWERINGS, legalize

ODD = np.float32([[np.nan, 1, -1, 0], [-np.inf, np.inf, np.nan, -0.0], [5, -5, 0.25, -0.25]])


def _legalized(build, *inputs, **shapes):
    mod = legalize()(module(build, **shapes))
    assert not [op for op in LOWERINGS if f"R.{op.removeprefix('relax.')}(" in mod.script()]
    return run(mod, *inputs)


def _same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)  # Takes NaN for equal to NaN.


def test_relu_keeps_nan_and_infinity():
    y = _legalized(lambda bb, x: bb.emit(relax.op.nn.relu(x)), ODD, x=ODD.shape)
    _same(y, np.maximum(ODD, 0))
    assert np.isnan(y).sum() == 2


def test_clip_keeps_nan():
    def build(bb, x):
        return bb.emit(relax.op.clip(x, tvm.tirx.const(-0.5), tvm.tirx.const(0.5)))

    _same(_legalized(build, ODD, x=ODD.shape), np.clip(ODD, -0.5, 0.5).astype(np.float32))


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("swap", [False, True])
def test_the_larger_of_two_is_nan_when_either_is(name, swap):
    other = np.zeros_like(ODD)
    a, b = (other, ODD) if swap else (ODD, other)
    op = getattr(relax.op, name)
    y = _legalized(lambda bb, a, b: bb.emit(op(a, b)), a, b, a=a.shape, b=b.shape)
    _same(y, getattr(np, name)(a, b))


@pytest.mark.parametrize("shapes", [((3, 1), (4,)), ((1,), (3, 4)), ((), (3, 4)), ((3, 4), (3, 4))])
def test_the_larger_of_two_broadcasts(shapes):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    build = lambda bb, a, b: bb.emit(relax.op.maximum(a, b))  # noqa: E731
    _same(_legalized(build, a, b, a=a.shape, b=b.shape), np.maximum(a, b))


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
def test_extremes_over_axes(name, keepdims, axis):
    x = np.random.default_rng(1).standard_normal((3, 5, 7)).astype(np.float32)
    op = getattr(relax.op, name)
    y = _legalized(lambda bb, x: bb.emit(op(x, axis, keepdims)), x, x=x.shape)
    _same(y, getattr(np, name)(x, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("name, value", [("max", -np.inf), ("min", np.inf)])
def test_the_extreme_of_infinities_alone_is_infinite(name, value):
    x = np.full((2, 9), value, np.float32)
    op = getattr(relax.op, name)
    _same(_legalized(lambda bb, x: bb.emit(op(x, 1)), x, x=x.shape), np.full(2, value, np.float32))


@pytest.mark.parametrize("name", ["max", "min"])
@pytest.mark.parametrize("place", range(5))
def test_an_extreme_keeps_nan_wherever_it_stands(name, place):
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    x[1, place] = np.nan
    op = getattr(relax.op, name)
    y = _legalized(lambda bb, x: bb.emit(op(x, 1)), x, x=x.shape)
    assert np.isfinite(y[0]) and np.isnan(y[1])


@pytest.mark.parametrize(
    "op, attrs",
    [
        *[("Relu", {}), ("LeakyRelu", {}), ("Elu", {}), ("HardSigmoid", {}), ("HardSwish", {})],
        *[("Sigmoid", {}), ("Tanh", {}), ("Abs", {}), ("Softplus", {}), ("Erf", {}), ("Neg", {})],
        ("Softmax", {"axis": 1}),
        # ONNX Runtime's ReduceMax drops a NaN or not by its place: numpy is the reference above.
        ("ReduceSum", {}),
        ("ReduceMean", {"axes": [1]}),
    ],
)
def test_places_of_nan_are_those_of_onnx_runtime(op, attrs, tmp_path):
    proto = models.unary(op, ODD.shape, **attrs)
    ours, theirs = module_of(proto, tmp_path)(ODD), reference(proto, {"x": ODD})[0]
    assert (np.isnan(ours) == np.isnan(theirs)).all(), (ours, theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (0.0, 6.0), (0.5, -0.5), (np.nan, 0.5)])
def test_clip_agrees_with_onnx_runtime(bounds, tmp_path):
    proto = models.model(
        [helper.make_node("Clip", ["x", "low", "high"], ["y"])],
        [models.value("x", ODD.shape)],
        [models.value("y", ODD.shape)],
        {"low": np.float32(bounds[0]), "high": np.float32(bounds[1])},
    )
    ours, theirs = module_of(proto, tmp_path)(ODD), reference(proto, {"x": ODD})[0]
    _same(ours, theirs)


_FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=60)
@given(st.data())
def test_extremes_of_any_values_are_those_of_numpy(data):
    x = data.draw(arrays.arrays(np.float32, (3, 4), elements=_FLOATS))
    found = _EXTREMES(x)
    with np.errstate(invalid="ignore"):
        _same(found[0], x.max(1))
        _same(found[1], x.min(0))
        _same(found[2], np.maximum(x, x[::-1]))


class _Extremes:
    """One module for all examples, built when first needed."""

    _call = None

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        if self._call is None:

            def build(bb, x, y):
                return relax.Tuple(
                    [
                        bb.emit(relax.op.max(x, 1)),
                        bb.emit(relax.op.min(x, 0)),
                        bb.emit(relax.op.maximum(x, y)),
                    ]
                )

            mod = legalize()(module(build, x=(3, 4), y=(3, 4)))
            built = relax.build(mod, tvm.target.Target({"kind": "llvm"}))
            self._call = relax.VirtualMachine(built, tvm.cpu())["main"]
        flipped = np.ascontiguousarray(x[::-1])
        return [part.numpy() for part in self._call(*map(tvm.runtime.tensor, (x, flipped)))]


_EXTREMES = _Extremes()


@pytest.mark.parametrize(
    "shape, axes",
    [((8, 70, 70), [1, 2]), ((3, 5000), [1]), ((5000, 2), [0]), ((3, 768), [1]), ((2, 65536), [1])],
)
@pytest.mark.parametrize("keepdims", [True, False])
def test_long_sums_err_as_the_root_of_their_length(shape, axes, keepdims):
    """Added one after the other, these are off by 1e-4 and more."""
    x = np.full(shape, 0.1, np.float32)
    for op, theirs in ((relax.op.sum, np.sum), (relax.op.mean, np.mean)):

        def build(bb, x, op=op):
            return bb.emit(op(x, axes, keepdims))

        expected = theirs(x.astype(np.float64), axis=tuple(axes), keepdims=keepdims)
        y = _legalized(build, x, x=shape)
        assert y.shape == expected.shape
        np.testing.assert_allclose(y, expected, rtol=5e-6)


@pytest.mark.parametrize("op", [relax.op.sum, relax.op.mean], ids=["sum", "mean"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [("m", 3, "n"), (6, 3, 70)], ids=["open", "known"])
def test_sums_in_order_are_added_in_double(op, keepdims, shape):
    def build(bb, x):
        return bb.emit(op(x, [0, 2], keepdims))

    mod = legalize()(module(build, x=shape))
    x = np.full((6, 3, 70), 0.1, np.float32)
    theirs = np.sum if op is relax.op.sum else np.mean
    expected = theirs(x.astype(np.float64), axis=(0, 2), keepdims=keepdims)
    _same(run(mod, x), expected.astype(np.float32))


@pytest.mark.parametrize("op", [relax.op.nn.softmax, relax.op.nn.log_softmax])
@pytest.mark.parametrize("size", [5000, "n"])
def test_the_sums_of_long_softmaxes_err_by_a_rounding(op, size):
    mod = legalize()(module(lambda bb, x: bb.emit(op(x, 0)), x=(size, 2)))
    x = np.float32(np.random.default_rng(0).standard_normal((5000, 2)))
    x[:, 1] = -np.inf
    exact = x.astype(np.float64) - x.max(0)
    exact -= np.log(np.exp(exact).sum(0))
    y = run(mod, x)
    expected = np.exp(exact) if op is relax.op.nn.softmax else exact
    np.testing.assert_allclose(y[:, 0], expected[:, 0], rtol=6e-7)
    assert np.isnan(y[:, 1]).all()


def test_a_variance_is_two_such_sums():
    x = np.full((2, 40_000), 0.1, np.float32)
    x[:, ::2] *= -1
    y = _legalized(lambda bb, x: bb.emit(relax.op.variance(x, [1])), x, x=x.shape)
    np.testing.assert_allclose(y, x.astype(np.float64).var(axis=1), rtol=2e-6)


@pytest.mark.parametrize("rows", [4, "n"], ids=["known", "open"])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean"])
def test_numbers_of_16_bits_are_added_in_32(op, rows, tmp_path):
    """In float16, 300 numbers near 1 are off by more than their last bit."""
    node = helper.make_node(op, ["x", "axes"], ["y"])
    given = models.value("x", (rows, 300), TensorProto.FLOAT16)
    made = models.value("y", (rows, 1), TensorProto.FLOAT16)
    proto = models.model([node], [given], [made], {"axes": np.int64([1])}, 18)
    x = np.random.default_rng(0).uniform(0.5, 1.5, (4, 300)).astype(np.float16)
    wide = getattr(np, {"ReduceSum": "sum", "ReduceMean": "mean"}[op])
    _same(module_of(proto, tmp_path)(x), wide(x, 1, np.float32, keepdims=True).astype(np.float16))
