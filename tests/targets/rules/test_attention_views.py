"""Attention of open sizes, as a model has it: one library for all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.compiling import module_of, reference
from tests.examples import examples
from tests.net import Net
from tilewright.ops import AttentionSpec
from tilewright.ops.attention import Operand
from tilewright.targets.rules.attention_views import open_sizes, views_of

MASKS = {
    "none": None,
    "of keys": ("b", 1, 1, "s"),
    "of scores": ("b", 1, "s", "s"),
    "of one batch": (1, 4, "s", "s"),
}


def _model(mask):
    net = Net(x=("b", "s", 64))
    heads = {}
    for name in "qkv":
        made = net.Add(net.MatMul("x", net.weight(64, 64)), net.weight(64))
        split = net.Reshape(made, net.ints(0, 0, 4, 16))
        heads[name] = net.Transpose(split, perm=[0, 2, 1, 3])
    keys = net.Transpose(heads["k"], perm=[0, 1, 3, 2])
    scores = net.Mul(net.MatMul(heads["q"], keys), 0.25)
    if mask:
        scores = net.Add(scores, net.input("mask", mask, 1))
    y = net.MatMul(net.Softmax(scores, axis=-1), heads["v"])
    return net.model(net.Reshape(net.Transpose(y, perm=[0, 2, 1, 3]), net.ints(0, 0, 64)))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Libraries by their mask, each compiled once."""
    made = {}

    def library(name):
        if name not in made:
            model = _model(MASKS[name])
            made[name] = model, module_of(model, tmp_path_factory.mktemp("attention"), threads=2)
        return made[name]

    return library


@pytest.mark.parametrize("name", MASKS)
def test_any_sizes_with_one_library(name, compiled):
    model, module = compiled(name)
    kernels = {kernel["rule"] for kernel in module.manifest["kernels"]}
    assert "attention" in kernels and "fallback" not in kernels

    # One panel and one block of keys, their ends, and several of each.
    @given(st.integers(1, 3), st.integers(1, 300), st.integers(0, 99))
    @example(1, 1, 0)
    @example(1, 16, 0)
    @example(2, 17, 0)
    @example(1, 253, 0)
    @settings(max_examples=examples(6))
    def check(batch, tokens, seed):
        rng = np.random.default_rng(seed)
        sizes = {"b": batch, "s": tokens}
        given = {"x": rng.standard_normal((batch, tokens, 64), np.float32)}
        if MASKS[name]:
            shape = [sizes.get(size, size) for size in MASKS[name]]
            given["mask"] = rng.standard_normal(shape, np.float32)
        wanted = reference(model, given)[0]
        np.testing.assert_allclose(module(given), wanted, atol=4e-6 * np.abs(wanted).max())

    check()


def test_strides_of_open_sizes_are_products_of_them():
    views = (("reshape", ("b", "s", 4, 16)), ("transpose", (0, 2, 1, 3)))
    turned = (views[0], ("transpose", (0, 2, 3, 1)))
    operands = (Operand(n, ("b", "s", 64), v) for n, v in enumerate((views, turned, views)))
    y = (("transpose", (0, 2, 1, 3)), ("reshape", ("b", "s", 64)))
    spec = AttentionSpec("float32", "b", 4, 4, "s", "s", 16, 16, *operands, y)
    assert open_sizes(spec) == ["b", "s"]
    found = views_of(spec, {"b": 3, "s": 7}.__getitem__)
    for view in (found.q, found.v, found.y):
        assert [int(view.stride(axis)) for axis in (1, 2, 3)] == [16, 64, 1]
        assert int(view.place(0, 2)) == 2 * 7 * 64


def test_a_stride_may_be_an_open_size():
    """Keys that lie with their positions side by side, as caches have them."""
    keys = Operand(1, ("b", 4, 16, "s"), ())
    others = [Operand(n, ("b", 4, "s", 16), ()) for n in (0, 2)]
    spec = AttentionSpec("float32", "b", 4, 4, "s", "s", 16, 16, others[0], keys, others[1])
    found = views_of(spec, {"b": 3, "s": 7}.__getitem__)
    assert [int(found.k.stride(axis)) for axis in (1, 2, 3)] == [16 * 7, 7, 1]
