from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests import models
from tests.compiling import reference
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise.attention_nodes import (
    Expansion,
    Mask,
    attend,
    default_scale,
)
from tilewright.errors import UnsupportedModel

SHAPE = (2, 3, 5, 4)


@pytest.fixture
def to(model_file) -> Expansion:
    """An expansion of a node called "attn" with four-dimensional inputs."""
    node = onnx.helper.make_node("Attention", ["q", "k", "v"], ["y"], name="attn")
    proto = models.model(
        [node],
        [models.value(name, SHAPE) for name in "qkv"],
        [models.value("y", SHAPE)],
        opset=23,
    )
    model = load(model_file(proto))
    float32 = np.dtype(np.float32)
    return Expansion(model, node, dict.fromkeys("qkv", SHAPE), dict.fromkeys("qkv", float32))


def _answer(to: Expansion, inputs: dict[str, np.ndarray]) -> np.ndarray:
    del to.model.graph.node[:]
    to.model.graph.node.extend(to.nodes)
    return reference(to.model.proto, inputs)[0]


def _inputs() -> dict[str, np.ndarray]:
    return {name: models.weight(name, SHAPE) for name in "qkv"}


def _expected(q, k, v, scale, softcap, bias) -> np.ndarray:
    s = q @ k.transpose(0, 1, 3, 2) * scale
    s = softcap * np.tanh(s / softcap) if softcap else s
    e = np.exp(s + bias)
    return e / e.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("softcap", [0.0, 0.5])
def test_writes_attention(softcap, to):
    bias = models.weight("bias", (5, 5))
    mask = Mask("Add", to.constant("bias", bias, np.float32))
    attend(to, "q", "k", "v", scale=0.3, softcap=softcap, masks=(mask,), merged=False)
    inputs = _inputs()
    expected = _expected(**inputs, scale=0.3, softcap=softcap, bias=bias)
    np.testing.assert_allclose(_answer(to, inputs), expected, rtol=1e-5, atol=1e-6)


def test_a_row_without_keys_is_zero_when_guarded(to):
    seen = np.tril(np.ones((5, 5), bool), -1)  # the first query sees nothing
    mask = Mask("Where", to.constant("seen", seen, bool), -np.inf)
    attend(to, "q", "k", "v", scale=0.5, masks=(mask,), guarded=True, merged=False)
    y = _answer(to, _inputs())
    assert not y[:, :, 0].any() and np.isfinite(y).all() and y[:, :, 1].all()


def test_merges_heads(to):
    attend(to, "q", "k", "v", scale=1.0)
    *_, turned, merged = to.nodes
    assert (turned.op_type, merged.op_type) == ("Transpose", "Reshape")
    assert merged.output == ["y"]


def test_every_node_has_a_name_under_the_old_one(to):
    attend(to, "q", "k", "v", scale=1.0, softcap=2.0, guarded=True)
    names = [node.name for node in to.nodes]
    assert all(name.startswith("attn/") for name in names) and len(set(names)) == len(names)


def test_splits_heads(to):
    made = to.heads("q", "q", 4, 6)
    assert made == "y/q_heads"
    shape = to.model.constants()["y/q_shape"]
    assert shape.tolist() == [0, 0, 4, 6]


def test_a_causal_mask_ends_at_each_query(to):
    assert to.causal(2, 3).tolist() == [[True, False, False], [True, True, False]]
    with pytest.raises(UnsupportedModel, match="a causal mask for s queries and 3 keys"):
        to.causal("s", 3)


def test_asks_for_a_rank(to):
    assert to.shape("q", "Q", 3, 4) == SHAPE
    with pytest.raises(UnsupportedModel, match="the shape of Q is") as found:
        to.shape("q", "Q", 3)
    assert found.value.where == "node attn (Attention), input 'Q'"
    with pytest.raises(UnsupportedModel, match="the shape of mask is not known"):
        to.shape("m", "mask", 2)


def test_the_type_is_that_of_the_first_input_that_has_one(to):
    del to.dtypes["q"]
    assert to.dtype == np.float32
    to.dtypes.clear()
    with pytest.raises(UnsupportedModel, match="type is not known"):
        _ = to.dtype


def test_the_default_scale_is_that_of_the_paper():
    assert default_scale(64) == 0.125
