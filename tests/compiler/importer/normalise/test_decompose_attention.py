from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests import models
from tests.net import Net, fused, groups, keeps_numbers
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.errors import UnsupportedModel

HEADS = {"q_num_heads": 4, "kv_num_heads": 4}
OPSETS = pytest.mark.parametrize("opset", [23, 24])


def _net(opset: int = 23, kv_width: int = 24, **more: tuple) -> Net:
    return Net(opset=opset, q=(2, 5, 24), k=(2, 7, kv_width), v=(2, 7, kv_width), **more)


def _spec(net: Net, y: str, folder, **options: object):
    work = keeps_numbers(net.model(y), folder, **options)
    (group,) = work.fusions.groups
    assert group.fusion == "attention"
    return group.spec


@OPSETS
def test_three_dimensions(opset, tmp_path):
    net = _net(opset)
    spec = _spec(net, net.Attention("q", "k", "v", **HEADS), tmp_path)
    assert (spec.batch, spec.heads, spec.queries, spec.keys, spec.head_size) == (2, 4, 5, 7, 6)
    assert spec.scale == float(f"{6**-0.5:.7g}") and spec.mask == "none" and not spec.guarded


@OPSETS
def test_four_dimensions_of_other_sizes(opset, tmp_path):
    net = Net(opset=opset, q=("n", 4, "s", 6), k=("n", 4, "t", 6), v=("n", 4, "t", 8))
    spec = _spec(net, net.Attention("q", "k", "v"), tmp_path)
    assert (spec.batch, spec.queries, spec.keys, spec.value_size) == ("n", "s", "t", 8)
    assert spec.q.views == spec.y == ()


@OPSETS
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_queries(kv_heads, opset, tmp_path):
    net = _net(opset, kv_width=6 * kv_heads)
    y = net.Attention("q", "k", "v", q_num_heads=4, kv_num_heads=kv_heads)
    spec = _spec(net, y, tmp_path)
    assert (spec.heads, spec.kv_heads) == (4, kv_heads)


def test_grouped_queries_of_four_dimensions(tmp_path):
    net = Net(opset=23, q=(2, 4, 5, 6), k=(2, 2, 7, 6), v=(2, 2, 7, 8))
    assert _spec(net, net.Attention("q", "k", "v"), tmp_path).kv_heads == 2


@pytest.mark.parametrize("softcap", [0.0, 0.7])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_scale_and_softcap(scale, softcap, tmp_path):
    net = _net()
    given = {"scale": scale} if scale else {}
    spec = _spec(net, net.Attention("q", "k", "v", softcap=softcap, **given, **HEADS), tmp_path)
    assert spec.scale == pytest.approx(scale or 6**-0.5, rel=1e-6)
    assert spec.softcap == pytest.approx(softcap)


@OPSETS
@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (2, 1, 5, 7), (1, 4, 5, 7)], ids=str)
@pytest.mark.parametrize("causal", [0, 1])
def test_a_mask_that_is_added(causal, shape, opset, tmp_path):
    net = _net(opset, m=shape)
    y = net.Attention("q", "k", "v", "m", is_causal=causal, softcap=1.5, **HEADS)
    spec = _spec(net, y, tmp_path)
    assert (spec.mask, spec.mask_shape) == ("add", shape)
    assert spec.bias == ((5, 7) if causal else None)


@OPSETS
@pytest.mark.parametrize("causal", [0, 1])
def test_a_mask_of_truths_and_a_row_without_keys(causal, opset, tmp_path):
    net = _net(opset, m=(2, 1, 5, 7))
    seen = net.Greater("m", 0.0)
    model = net.model(net.Attention("q", "k", "v", seen, is_causal=causal, **HEADS))
    mask = np.ones((2, 1, 5, 7), np.float32)
    mask[0, 0, 2] = -1
    mask[1, 0, :, 3] = -1
    (group,) = keeps_numbers(model, tmp_path, given={"m": mask}).fusions.groups
    assert (group.spec.mask, group.spec.fill, group.spec.guarded) == ("where_keep", -np.inf, True)


@OPSETS
def test_a_causal_mask(opset, tmp_path):
    net = _net(opset)
    spec = _spec(net, net.Attention("q", "k", "v", is_causal=1, **HEADS), tmp_path)
    assert spec.causal and spec.fill == -np.inf


def test_nodes_lie_under_the_name_of_the_old_one(tmp_path):
    net = _net()
    model = net.model(net.Attention("q", "k", "v", **HEADS))
    work = fused(model, tmp_path)
    named = {name for member in work.fusions.groups[0].members for name in work.origins[member]}
    assert "n_attention0/scores (MatMul)" in named and "n_attention0/softmax (Softmax)" in named
    assert all(name.startswith("n_attention0/") for name in named)


def test_its_projections_merge(tmp_path):
    net = Net(opset=23, x=(2, 5, 24))
    q, k, v = (net.MatMul("x", net.weight(24, 24)) for _ in range(3))
    model = net.model(net.Attention(q, k, v, is_causal=1, **HEADS))
    assert groups(keeps_numbers(model, tmp_path)) == ["linear", "attention"]


def test_leaves_other_operators_alone(model_file):
    model = load(model_file(models.mlp_block()))
    before = [node.op_type for node in model.graph.node]
    normalise(model)
    assert [node.op_type for node in model.graph.node] == before


def _refused(model, model_file) -> UnsupportedModel:
    with pytest.raises(UnsupportedModel) as found:
        normalise(load(model_file(model)))
    assert "n_attention" in found.value.where and found.value.hint
    return found.value


def test_a_cache(tmp_path):
    net = _net(past_k=(2, 4, 3, 6), past_v=(2, 4, 3, 6))
    made = net.add("Attention", "q", "k", "v", "", "past_k", "past_v", outputs=3, **HEADS)
    keeps_numbers(net.model(*made), tmp_path)


def test_lengths_per_row(tmp_path):
    net = _net(24)
    lengths = net.input("lengths", (2,))
    proto = net.model(net.Attention("q", "k", "v", "", "", "", lengths, **HEADS))
    keeps_numbers(proto, tmp_path, given={"lengths": np.array([3, 5])})


def test_the_scores_as_a_second_result(tmp_path):
    net = _net()
    y, _, _, scores = net.add("Attention", "q", "k", "v", outputs=4, **HEADS)
    proto = net.model(y, scores)
    proto.graph.node[0].output[1] = proto.graph.node[0].output[2] = ""
    keeps_numbers(proto, tmp_path)


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE])
def test_a_softmax_in_another_type(kind, tmp_path):
    net = _net()
    proto = net.model(net.Attention("q", "k", "v", softmax_precision=kind, **HEADS))
    work = keeps_numbers(proto, tmp_path)
    assert ("attention" in groups(work)) == (kind == onnx.TensorProto.FLOAT)


def test_refuses_a_mask_for_fewer_keys(model_file):
    net = _net(24, m=(5, 6))
    error = _refused(net.model(net.Attention("q", "k", "v", "m", **HEADS)), model_file)
    assert error.what == "a mask for 6 of 7 keys"


def test_refuses_a_causal_mask_of_open_size(model_file):
    net = Net(opset=23, q=(2, "s", 24), k=(2, "s", 24), v=(2, "s", 24))
    error = _refused(net.model(net.Attention("q", "k", "v", is_causal=1, **HEADS)), model_file)
    assert error.what == "a causal mask for s queries and s keys" and "--dim" in error.hint


def test_refuses_columns_of_open_size(model_file):
    net = Net(opset=23, q=(2, 5, 24), k=(2, 7, "w"), v=(2, 7, 24))
    error = _refused(net.model(net.Attention("q", "k", "v", **HEADS)), model_file)
    assert error.what == "K has w columns for 4 heads" and "input 'K'" in error.where


def test_refuses_open_heads(model_file):
    net = Net(opset=23, q=(2, "h", 5, 6), k=(2, "h", 7, 6), v=(2, "h", 7, 6))
    error = _refused(net.model(net.Attention("q", "k", "v")), model_file)
    assert error.what == "heads or their size are not fixed"
