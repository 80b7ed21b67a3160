from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests import models
from tests.net import CONTRIB, Net, groups, keeps_numbers
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.errors import UnsupportedModel

WIDTH, QUERIES, KEYS = 24, 5, 7
INT32 = 6
Rows = Sequence[Sequence[int]]
# The second has a row of which nothing is seen.
SELF_MASKS = ([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], [[0, 0, 0, 0, 0], [0, 1, 0, 1, 1]])
CROSS_MASK = [[1, 1, 1, 0, 0, 1, 0], [1] * KEYS]


def _with_mask(net: Net, arguments: list[str], place: int, keys: int, rows: Rows) -> dict:
    arguments += [""] * (place - len(arguments)) + [net.input("mask", (2, keys), INT32)]
    return {"mask": np.asarray(rows, np.int32)}


def _attention(
    mask: Rows | None = None,
    bias: bool = True,
    added: tuple | None = None,
    opset: int = 17,
    **attributes: object,
) -> tuple[models.onnx.ModelProto, dict]:
    """com.microsoft.Attention of one input."""
    net = Net(opset=opset, x=(2, QUERIES, WIDTH), **({"added": added} if added else {}))
    columns = sum(attributes.get("qkv_hidden_sizes", (WIDTH,) * 3))
    arguments = ["x", net.weight(WIDTH, columns), net.weight(columns) if bias else ""]
    given = _with_mask(net, arguments, 3, QUERIES, mask) if mask else {}
    if added:
        arguments += [""] * (5 - len(arguments)) + ["added"]
    y = net.Attention(*arguments, domain=CONTRIB, num_heads=4, **attributes)
    rows = attributes.get("qkv_hidden_sizes", (WIDTH,) * 3)[2]
    return net.model(net.Reshape(y, net.ints(2, QUERIES, rows))), given


def _multi_head(
    mask: Rows | None = None,
    bias: bool = True,
    added: tuple | None = None,
    keys: int = KEYS,
    value_width: int = WIDTH,
    **attributes: object,
) -> tuple[models.onnx.ModelProto, dict]:
    """com.microsoft.MultiHeadAttention with its projections."""
    more = {"added": added} if added else {}
    net = Net(x=(2, QUERIES, WIDTH), e=(2, keys, WIDTH), **more)
    widths = (WIDTH, WIDTH, value_width)
    arguments = [
        net.MatMul(x, net.weight(WIDTH, n)) for x, n in zip("xee", widths, strict=True)
    ] + [net.weight(sum(widths)) if bias else ""]
    given = _with_mask(net, arguments, 4, keys, mask) if mask else {}
    if added:
        arguments += [""] * (5 - len(arguments)) + ["added"]
    y = net.MultiHeadAttention(*arguments, domain=CONTRIB, num_heads=4, **attributes)
    return net.model(y), given


def _spec(made: tuple, folder, linear: int = 1):
    model, given = made
    work = keeps_numbers(model, folder, given=given)
    *before, last = groups(work)
    assert last == "attention" and [g.split()[0] for g in before] == ["linear"] * linear
    return work.fusions.groups[-1].spec


def test_attention(tmp_path):
    spec = _spec(_attention(), tmp_path)
    assert spec.joint and (spec.heads, spec.head_size, spec.mask) == (4, 6, "none")
    assert spec.scale == float(f"{6**-0.5:.7g}")


def test_attention_of_an_older_operator_set(tmp_path):
    keeps_numbers(_attention(SELF_MASKS[0], opset=11)[0], tmp_path)


def test_attention_without_a_bias(model_file):
    """Not compared: ONNX Runtime crashes on it."""
    model = load(model_file(_attention(bias=False)[0]))
    normalise(model)
    found = [node.op_type for node in model.graph.node]
    assert found[:2] == ["MatMul", "Slice"] and "Add" not in found


@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("mask", SELF_MASKS, ids=["part", "row"])
def test_attention_with_hidden_keys(mask, unidirectional, tmp_path):
    spec = _spec(_attention(mask, unidirectional=unidirectional), tmp_path)
    assert spec.causal == bool(unidirectional)
    assert (spec.bias or spec.mask_shape) == (2, 1, 1, QUERIES)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.2},
        {"unidirectional": 1},
        {"qkv_hidden_sizes": [16, 16, 32]},
        {"mask": SELF_MASKS[0], "mask_filter_value": -3.0},
        {"added": (2, 4, QUERIES, QUERIES)},
        {"added": (1, 4, QUERIES, QUERIES), "mask": SELF_MASKS[0]},
    ],
    ids=str,
)
def test_attention_with_options(options, tmp_path):
    spec = _spec(_attention(**options), tmp_path)
    assert spec.scale == options.get("scale", spec.scale)
    assert spec.value_size == (8 if "qkv_hidden_sizes" in options else 6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"mask": CROSS_MASK},
        {"added": (2, 4, QUERIES, KEYS)},
        {"added": (1, 4, QUERIES, KEYS), "mask": CROSS_MASK},
        {"value_width": 32},
        {"scale": 0.3, "unidirectional": 1, "keys": QUERIES},
    ],
    ids=str,
)
def test_multi_head_attention(options, tmp_path):
    """K and v are one product: the bias has become part of each."""
    spec = _spec(_multi_head(**options), tmp_path, linear=2)
    assert spec.keys == options.get("keys", KEYS) and spec.joint
    assert spec.causal == ("unidirectional" in options)


def test_what_follows_an_operator_that_onnx_does_not_know(tmp_path):
    """No shapes are inferred past ONNX Runtime's own operators; the weights tell enough."""
    net = Net(x=("n", "s", WIDTH))

    def layer(x: str) -> str:
        weights = net.weight(WIDTH, 3 * WIDTH), net.weight(3 * WIDTH)
        y = net.Attention(x, *weights, domain=CONTRIB, num_heads=4)
        rows = (net.weight(WIDTH) for _ in range(3))
        return net.SkipLayerNormalization(y, x, *rows, domain=CONTRIB, epsilon=1e-5)

    work = keeps_numbers(net.model(layer(layer("x"))), tmp_path)
    assert groups(work) == ["linear bias", "attention", "norm layer"] * 2


def _refused(model, model_file, at: str) -> UnsupportedModel:
    with pytest.raises(UnsupportedModel) as found:
        normalise(load(model_file(model)))
    assert at in found.value.where and "ttention" in found.value.where and found.value.hint
    return found.value


def _plain(operator: str, count: int, shape: tuple, *more: str, outputs: int = 1, **attributes):
    """A model of one operator whose inputs all have one shape; `more` follow them."""
    names = [f"x{number}" for number in range(count)]
    inputs = dict.fromkeys(names, shape)
    net = Net(**inputs, **{name: (2, 4, 3, 6) for name in more if name})
    made = net.add(operator, *names, *more, outputs=outputs, domain=CONTRIB, **attributes)
    node = net._nodes
    return models.model(
        node,
        net._inputs,
        [models.value(made if outputs == 1 else made[0], shape)],
        {},
        opsets=[models.helper.make_opsetid(CONTRIB, 1)],
    )


def test_refuses_caches(model_file):
    model = _plain("MultiHeadAttention", 3, (2, 5, 24), "", "", "", "past", "past", num_heads=4)
    assert _refused(model, model_file, "input 'past_key'").what == "attention with past_key"
    weights = _attention()[0]
    weights.graph.node[0].input.extend(["", "x"])
    assert _refused(weights, model_file, "input 'past'").what == "attention with past"


def test_refuses_a_second_result(model_file):
    model = _plain("MultiHeadAttention", 3, (2, 5, 24), outputs=2, num_heads=4)
    error = _refused(model, model_file, "output 'present_key'")
    assert error.what == "attention with a second result, present_key"


def test_refuses_rotary_embedding(model_file):
    model, _ = _attention(do_rotary=1)
    _refused(model, model_file, "attribute 'do_rotary'")


def test_refuses_a_packed_query(model_file):
    model = _plain("MultiHeadAttention", 1, (2, 5, 4, 3, 6), num_heads=4)
    error = _refused(model, model_file, "input 'key'")
    assert error.what == "attention with a packed query: key is not given"


def test_refuses_keys_that_are_split_already(model_file):
    model = _plain("MultiHeadAttention", 3, (2, 4, 5, 6), num_heads=4)
    error = _refused(model, model_file, "input 'query'")
    assert error.what == "the shape of query is [2, 4, 5, 6]"


def test_refuses_columns_that_are_no_heads(model_file):
    model = _plain("MultiHeadAttention", 3, (2, 5, 24), num_heads=5)
    error = _refused(model, model_file, "input 'query'")
    assert error.what == "query has 24 columns for 5 heads"


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 5, 5)], ids=str)
def test_refuses_other_masks(shape, model_file):
    model, _ = _attention(SELF_MASKS[0])
    value = next(v for v in model.graph.input if v.name == "mask")
    value.CopyFrom(models.value("mask", shape, INT32))
    error = _refused(model, model_file, "input 'mask_index'")
    assert error.what == f"a mask of shape {list(shape)}"


def test_refuses_a_causal_mask_for_other_keys(model_file):
    model, _ = _multi_head(unidirectional=1)
    error = _refused(model, model_file, "attribute 'unidirectional'")
    assert error.what == "a causal mask for 5 queries and 7 keys"
