from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.lowering import run_group
from tilewright.ops import NormSpec, Step
from tilewright.targets.catalog import CATALOG
from tilewright.targets.rules.rule import Argument, GroupCall


def _exact(spec: NormSpec, arrays: dict[str, np.ndarray]) -> np.ndarray:
    exact = {role: array.astype(np.float64) for role, array in arrays.items()}
    x = exact["left"] + exact["right"] if spec.skip else exact["x"]
    rows = x.reshape(x.shape[0], spec.groups, -1) if spec.method == "group" else x
    axes = (2,) if spec.method == "group" else spec.axes
    if spec.method != "rms":
        rows = rows - rows.mean(axes, keepdims=True)
    y = (rows / np.sqrt((rows**2).mean(axes, keepdims=True) + spec.epsilon)).reshape(x.shape)
    channel = spec.method in ("group", "instance")
    shape = (-1, *(1,) * (x.ndim - 2)) if channel else [spec.x[axis] for axis in spec.axes]
    late = {step.name for step in spec.epilogue}
    if spec.weight:
        y = y * exact["gamma"].reshape(shape)
    if spec.bias:
        y = y + exact["beta"].reshape(shape)
    if "scale" in late:
        y = y * exact["weight"].reshape(shape)
    if "bias" in late:
        y = y + exact["bias"].reshape(shape)
    return y


def _check(spec: NormSpec, weights: int, target=None) -> None:
    random = np.random.default_rng(0)
    shapes = dict.fromkeys(("left", "right") if spec.skip else ("x",), spec.x)
    shapes |= dict.fromkeys(("gamma", "beta"), (weights,))
    if spec.epilogue:
        shapes["weight"] = shapes["bias"] = (weights,)
    arrays = {r: random.standard_normal(s, dtype="float32") for r, s in shapes.items()}
    arguments = tuple(Argument(a.shape, "float32") for a in arrays.values())
    places = {role: place for place, role in enumerate(arrays)}
    call = GroupCall("group", spec, arguments, places, Argument(spec.x, "float32"))
    name, y = run_group(call, arrays, *(() if target is None else (target,)))
    exact = _exact(spec, arrays)
    assert name == "norm"
    np.testing.assert_allclose(y, exact, rtol=0, atol=3e-6 * max(1, np.abs(exact).max()))


@settings(max_examples=examples(11), deadline=None)
@given(
    method=st.sampled_from(("layer", "rms")),
    x=st.lists(st.integers(1, 9), min_size=1, max_size=2).map(tuple),
    length=st.integers(1, 150),
    skip=st.booleans(),
)
def test_rows(method, x, length, skip):
    spec = NormSpec("float32", method, (*x, length), (len(x),), 1e-3, True, method == "layer")
    _check(NormSpec(**{**vars(spec), "skip": skip}), length)


def test_several_axes():
    _check(NormSpec("float32", "layer", (3, 5, 7), (1, 2), 1e-5, True, True), 35)


def test_every_vector_width():
    for target in CATALOG:
        if target.name in ("x86-64", "x86-64-avx", "x86-64-avx2"):
            _check(NormSpec("float32", "layer", (3, 45), (1,), 1e-5, True, True), 45, target)


@pytest.mark.parametrize("weight, bias", [(True, False), (False, True), (False, False)])
def test_weights_that_are_not_there(weight, bias):
    _check(NormSpec("float32", "layer", (3, 21), (1,), 1e-5, weight, bias), 21)


def test_weights_after_an_operator_that_has_its_own():
    steps = (Step("scale"), Step("bias"))
    _check(NormSpec("float32", "layer", (3, 21), (1,), 1e-5, True, True, epilogue=steps), 21)


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_groups_of_channels(groups):
    spec = NormSpec("float32", "group", (2, 6, 5, 7), (1, 2, 3), 1e-5, True, True, groups)
    _check(spec, 6)


def test_instances():
    _check(NormSpec("float32", "instance", (2, 6, 5, 7), (2, 3), 1e-5, True, True), 6)


def test_variance_beside_a_large_mean():
    spec = NormSpec("float32", "layer", (4, 768), (1,), 1e-5, False, False)
    random = np.random.default_rng(0)
    # Values that float32 holds exactly: all that is lost is lost by the kernel.
    x = np.float32(random.integers(-8, 9, (4, 768)) / 8 + 4096)
    call = GroupCall(
        "group", spec, (Argument(x.shape, "float32"),), {"x": 0}, Argument(x.shape, "float32")
    )
    _, y = run_group(call, {"x": x})
    np.testing.assert_allclose(y, _exact(spec, {"x": x}), rtol=0, atol=2e-3)
