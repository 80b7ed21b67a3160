from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests import models
from tests.compiling import compile_here, module_of, reference
from tests.net import Net, keeps_numbers

X = np.float32([[-4, -0.5, 0.25], [0.5, 3, 9]])


def _clip(bounds, opset=17, dtype=np.float32):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    if opset < 11:
        node = helper.make_node("Clip", ["x"], ["y"], **bounds)
        weights = {}
    else:
        names = [n if n in bounds else "" for n in ("low", "high")]
        node = helper.make_node("Clip", ["x", *names], ["y"])
        weights = {name: dtype(value) for name, value in bounds.items()}
    return models.model(
        [node],
        [models.value("x", X.shape, kind)],
        [models.value("y", X.shape, kind)],
        weights,
        opset=opset,
    )


@pytest.mark.parametrize("bounds", [{"low": 0, "high": 6}, {"low": -1}, {"high": 1}, {}], ids=str)
def test_constant_bounds_become_one_clip(bounds, tmp_path):
    proto = _clip(bounds)
    assert "R.clip" in compile_here(proto, tmp_path, until="import").mod.script()
    assert (module_of(proto, tmp_path)(X) == reference(proto, {"x": X})[0]).all()


def test_bounds_as_attributes(tmp_path):
    proto = _clip({"min": 0.0, "max": 6.0}, opset=6)
    assert (module_of(proto, tmp_path)(X) == np.clip(X, 0, 6)).all()


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.float64])
def test_other_types(dtype, tmp_path):
    x = np.abs(X).astype(dtype)
    y = module_of(_clip({"low": 1, "high": 3}, dtype=dtype), tmp_path)(x)
    assert y.dtype == dtype and (y == np.clip(x, 1, 3)).all()


@pytest.mark.parametrize("low, high", [(0, 6), (1, -1), (-np.inf, 2)])
def test_bounds_given_at_run_time(low, high, tmp_path):
    proto = models.model(
        [helper.make_node("Clip", ["x", "low", "high"], ["y"])],
        [models.value("x", X.shape), models.value("low", ()), models.value("high", ())],
        [models.value("y", X.shape)],
    )
    given = {"x": X, "low": np.array(low, np.float32), "high": np.array(high, np.float32)}
    assert (module_of(proto, tmp_path)(given) == reference(proto, given)[0]).all()


@pytest.mark.parametrize("attrs", [{}, {"alpha": 1 / 6, "beta": 0.5}])
def test_hard_sigmoid(attrs, tmp_path):
    proto = models.unary("HardSigmoid", X.shape, **attrs)
    np.testing.assert_allclose(
        module_of(proto, tmp_path)(X), reference(proto, {"x": X})[0], rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_extreme_of_several_is_one_kernel(op, count, tmp_path):
    shapes = {"a": (2, 3, 4), "b": (3, 1), "c": (1,), "d": (2, 1, 4), "e": ()}
    net = Net(**dict(list(shapes.items())[:count]))
    work = keeps_numbers(net.model(net.add(op, *list(shapes)[:count])), tmp_path)
    assert len(work.kernels) <= 1


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float64])
def test_the_extreme_of_other_types(op, dtype, tmp_path):
    net = Net()
    for name in "ab":
        net.input(name, (2, 3), helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    keeps_numbers(net.model(net.add(op, "a", "b")), tmp_path)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_nan_wins_on_either_side(op, tmp_path):
    edges = np.float32([[-np.inf, -2, -0.5, 0, 0.5, 2, np.inf, np.nan]])
    net = Net(a=(1, 8), b=(1, 8))
    proto = net.model(net.add(op, "a", "b"), net.add(op, "b", "a"), net.add(op, "a", 0.25))
    given = {"a": edges, "b": edges[:, ::-1].copy()}
    ours = module_of(proto, tmp_path)(given)
    for y, expected in zip(ours, reference(proto, given), strict=True):
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("base, exponent", [(1, 7), (6, 6), (7, 1), (1, 6), (7, 7)])
def test_powers_of_other_types(base, exponent, tmp_path):
    """Types by their numbers in ONNX: 1 float32, 6 int32, 7 int64."""
    net = Net(opset=15)
    net.input("x", (4,), base)
    net.input("n", (4,), exponent)
    dtypes = {1: np.float32, 6: np.int32, 7: np.int64}
    given = {"x": np.array([1, 2, 3, -5]), "n": np.array([4, 10, 3, 2])}
    given = {
        k: v.astype(dtypes[t]) for (k, v), t in zip(given.items(), (base, exponent), strict=True)
    }
    y = module_of(net.model(net.Pow("x", "n")), tmp_path)(given)
    assert y.dtype == dtypes[base] and y.tolist() == [1, 1024, 27, 25]


@pytest.mark.parametrize("negative, positive", [(1, 1), (0, 1), (1, 0), (0, 0)])
def test_infinite_numbers_of_one_sign(negative, positive, tmp_path):
    net = Net(opset=20, x=(5,))
    proto = net.model(net.IsInf("x", detect_negative=negative, detect_positive=positive))
    y = module_of(proto, tmp_path)(np.float32([1, np.inf, -np.inf, np.nan, 0]))
    assert y.tolist() == [False, bool(positive), bool(negative), False, False]
