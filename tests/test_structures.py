"""Small builds of the structure of real models: the groups one expects, by name."""

from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.net import Net, keeps_numbers, names
from tests.passes.forms import FORMS
from tilewright.ops import Step


def _norm(net: Net, y: str, channels: int) -> str:
    return net.BatchNormalization(y, *[net.weight(channels, near=2) for _ in range(4)])


def _conv(net: Net, x: str, inputs: int, outputs: int, kernel: int = 1, **attrs: object) -> str:
    groups = attrs.get("group", 1)
    w = net.weight(outputs, inputs // groups, kernel, kernel)
    return _norm(net, net.Conv(x, w, pads=[kernel // 2] * 4, **attrs), outputs)


def _layer_norm(net: Net, x: str, width: int) -> str:
    return net.LayerNormalization(x, net.weight(width, near=1), net.weight(width), axis=-1)


def _linear(net: Net, x: str, inner: int, columns: int, bias: bool = True) -> str:
    y = net.MatMul(x, net.weight(inner, columns))
    return net.Add(y, net.weight(columns)) if bias else y


def _silu(net: Net, y: str) -> str:
    return net.Mul(y, net.Sigmoid(y))


def _gelu(net: Net, y: str) -> str:
    return FORMS["gelu"]["half_last"](net, y)


def _attention(net: Net, x: str, width: int, heads: int, keys: str | None = None, mask: str = ""):
    """Projections, attention, merged heads and the projection of the result."""
    keys = keys or x
    size = width // heads
    split = net.ints(0, -1, heads, size)
    q = net.Transpose(net.Reshape(_linear(net, x, width, width), split), perm=[0, 2, 1, 3])
    k = net.Transpose(net.Reshape(_linear(net, keys, width, width), split), perm=[0, 2, 3, 1])
    v = net.Transpose(net.Reshape(_linear(net, keys, width, width), split), perm=[0, 2, 1, 3])
    scores = net.Div(net.MatMul(q, k), float(np.sqrt(size)))
    scores = net.Add(scores, mask) if mask else scores
    y = net.MatMul(net.Softmax(scores, axis=-1), v)
    y = net.Reshape(net.Transpose(y, perm=[0, 2, 1, 3]), net.ints(0, -1, width))
    return _linear(net, y, width, width)


def _count(work) -> dict[str, int]:
    found = names(work)
    return {name: found.count(name) for name in dict.fromkeys(found)}


def _epilogues(work, fusion: str) -> list[tuple[str, ...]]:
    epilogues = [g.spec.epilogue for g in work.fusions.groups if g.fusion == fusion]
    return [tuple(step.name for step in epilogue) for epilogue in epilogues]


def test_resnet(tmp_path):
    """Stem, a bottleneck block that widens, and one that does not; 8 of 8 norms folded."""
    net = Net(x=(1, 3, 16, 16))
    y = net.Relu(_conv(net, "x", 3, 8, 7, strides=[2, 2]))
    y = net.MaxPool(y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for inputs in (8, 16):
        z = net.Relu(_conv(net, y, inputs, 4))
        z = net.Relu(_conv(net, z, 4, 4, 3))
        z = _conv(net, z, 4, 16)
        y = net.Relu(net.Add(z, _conv(net, y, 8, 16) if inputs == 8 else y))
    y = net.Flatten(net.GlobalAveragePool(y))
    y = net.Gemm(y, net.weight(5, 16), net.weight(5), transB=1)
    work = keeps_numbers(net.model(y), tmp_path)
    assert _count(work) == {"conv_block": 8, "pool_linear": 1}
    assert sorted(_epilogues(work, "conv_block")) == sorted(
        [
            ("bias", "relu", "max_pool"),
            *[("bias", "relu")] * 4,
            *[("bias", "residual", "relu")] * 2,
            ("bias",),
        ]
    )


def test_mobilenet_v2(tmp_path):
    net = Net(x=(1, 8, 8, 8))
    y = net.Clip(_conv(net, "x", 8, 24), 0.0, 6.0)
    y = net.Clip(_conv(net, y, 24, 24, 3, group=24), 0.0, 6.0)
    y = net.Add("x", _conv(net, y, 24, 8))
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == ["conv_chain", "conv_block"]
    chain = work.fusions.groups[0].spec
    assert chain.first.epilogue == chain.second.epilogue == (Step("bias"), Step("clip", (0, 6)))
    assert _epilogues(work, "conv_block") == [("bias", "residual")]


def test_efficientnet(tmp_path):
    """Two MBConv blocks: each SiLU in a group, each squeeze-and-excitation with its scale."""
    net = Net(x=(1, 4, 8, 8))
    y = "x"
    for residual in (False, True):
        z = _silu(net, _conv(net, y, 4, 16))
        z = _silu(net, _conv(net, z, 16, 16, 3, group=16))
        s = net.GlobalAveragePool(z)
        s = _silu(net, net.Conv(s, net.weight(2, 16, 1, 1), net.weight(2)))
        s = net.Sigmoid(net.Conv(s, net.weight(16, 2, 1, 1), net.weight(16)))
        z = _conv(net, net.Mul(s, z), 16, 4)
        y = net.Add(z, y) if residual else z
    work = keeps_numbers(net.model(y), tmp_path)
    assert _count(work) == {"squeeze_excitation": 2}
    blocks = [group.spec for group in work.fusions.groups]
    silu = (Step("bias"), Step("silu"))
    assert [[conv.epilogue for conv in block.before] for block in blocks] == [[silu, silu]] * 2
    projections = [tuple(map(str, b.projection.epilogue)) for b in blocks]
    assert projections == [("bias",), ("bias", "residual")]
    assert {str(b.activation) for b in blocks} == {"silu"}


def test_convnext(tmp_path):
    net = Net(x=(1, 8, 6, 6))
    y = net.Conv("x", net.weight(8, 1, 7, 7), net.weight(8), group=8, pads=[3] * 4)
    y = _layer_norm(net, net.Transpose(y, perm=[0, 2, 3, 1]), 8)
    y = _linear(net, _gelu(net, _linear(net, y, 8, 32)), 32, 8)
    y = net.Mul(net.weight(8, near=1), y)
    y = net.Add(net.Transpose(y, perm=[0, 3, 1, 2]), "x")
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work)[:2] == ["conv_block", "norm"] and names(work)[2] == "mlp"


@pytest.mark.parametrize("batch", [1, "n"])
def test_vision_transformer(batch, tmp_path):
    """Patches, two pre-norm layers, the last norm and the classifier."""
    net = Net(x=(batch, 3, 8, 8))
    y = net.Conv("x", net.weight(12, 3, 4, 4), net.weight(12), strides=[4, 4])
    y = net.Transpose(net.Reshape(y, net.ints(0, 12, 4)), perm=[0, 2, 1])
    y = net.Add(y, net.weight(1, 4, 12))
    for _ in range(2):
        y = net.Add(y, _attention(net, _layer_norm(net, y, 12), 12, 3))
        hidden = _gelu(net, _linear(net, _layer_norm(net, y, 12), 12, 24))
        y = net.Add(y, _linear(net, hidden, 24, 12))
    first = net.Gather(_layer_norm(net, y, 12), net.const(0, np.int64), axis=1)
    work = keeps_numbers(net.model(_linear(net, first, 12, 5)), tmp_path)
    found = _count(work)
    assert found == {"conv_block": 1, "norm": 5, "linear": 5, "attention": 2, "mlp": 2}
    assert _epilogues(work, "mlp") == [("bias", "residual")] * 2


def test_bert(tmp_path):
    """Embeddings, and a post-norm layer with a mask."""
    net = Net()
    ids, kinds = net.input("ids", (1, 6)), net.input("kinds", (1, 6))
    mask = net.input("mask", (1, 6))
    bias = net.Unsqueeze(net.Cast(mask, to=1), net.ints(1, 2))
    bias = net.Mul(net.Sub(1.0, bias), -1e4)
    y = net.Add(net.Gather(net.weight(9, 12), ids), net.Gather(net.weight(2, 12), kinds))
    y = _layer_norm(net, net.Add(y, net.weight(1, 6, 12)), 12)
    y = _layer_norm(net, net.Add(_attention(net, y, 12, 3, mask=bias), y), 12)
    hidden = _gelu(net, _linear(net, y, 12, 24))
    y = _layer_norm(net, net.Add(_linear(net, hidden, 24, 12), y), 12)
    work = keeps_numbers(net.model(y), tmp_path)
    assert _count(work) == {"embedding": 1, "linear": 2, "attention": 1, "norm": 2, "mlp": 1}
    embedding = work.fusions.groups[0].spec
    assert embedding.norm.method == "layer" and embedding.position == (1, 6, 12)
    assert len(embedding.tables) == 2
    assert [g.spec.mask for g in work.fusions.groups if g.fusion == "attention"] == ["add"]


def test_whisper_decoder(tmp_path):
    """Self attention with a causal mask, cross attention, MLP; three norms."""
    net = Net(x=(1, 5, 12), audio=(1, 7, 12))
    causal = net.const(np.triu(np.full((5, 5), -1e9), 1))
    y = net.Add("x", _attention(net, _layer_norm(net, "x", 12), 12, 3, mask=causal))
    y = net.Add(y, _attention(net, _layer_norm(net, y, 12), 12, 3, keys="audio"))
    hidden = _gelu(net, _linear(net, _layer_norm(net, y, 12), 12, 24))
    y = net.Add(y, _linear(net, hidden, 24, 12))
    work = keeps_numbers(net.model(y), tmp_path)
    assert _count(work) == {"norm": 3, "linear": 5, "attention": 2, "mlp": 1}
    attention = [g.spec for g in work.fusions.groups if g.fusion == "attention"]
    assert [(a.queries, a.keys, a.causal) for a in attention] == [(5, 5, True), (5, 7, False)]


def _rolled(net: Net, x: str, shift: int, size: int) -> str:
    """Torch's roll of the two image axes, as it is exported."""
    for axis in (1, 2):
        cut = (net.ints(shift % size), net.ints(axis))
        first = net.Slice(x, net.ints(0), *cut)
        x = net.Concat(net.Slice(x, cut[0], net.ints(2**63 - 1), cut[1]), first, axis=axis)
    return x


def _windowed(net: Net, x: str, shift: int, cut: str) -> str:
    """Swin: attention in the four windows of 4 x 4 of an 8 x 8 image, two heads of 6."""
    y = _rolled(net, x, shift, 8) if shift else x
    y = net.Transpose(net.Reshape(y, net.ints(-1, 2, 4, 2, 4, 12)), perm=[0, 1, 3, 2, 4, 5])
    y = net.Reshape(y, net.ints(-1, 16, 12))
    qkv = net.Reshape(_linear(net, y, 12, 36), net.ints(-1, 16, 3, 2, 6))
    qkv = net.Transpose(qkv, perm=[2, 0, 3, 1, 4])
    if cut == "gather":
        q, k, v = (net.Gather(qkv, net.const(n, np.int64), axis=0) for n in range(3))
    else:
        parts = (net.Slice(qkv, net.ints(n), net.ints(n + 1), net.ints(0)) for n in range(3))
        q, k, v = (net.Squeeze(part, net.ints(0)) for part in parts)
    scores = net.MatMul(net.Mul(q, 6**-0.5), net.Transpose(k, perm=[0, 1, 3, 2]))
    scores = net.Add(scores, net.weight(1, 2, 16, 16))
    if shift:
        hidden = np.where(np.random.default_rng(0).random((1, 4, 1, 16, 16)) < 0.3, -100, 0)
        scores = net.Add(net.Reshape(scores, net.ints(-1, 4, 2, 16, 16)), net.const(hidden))
        scores = net.Reshape(scores, net.ints(-1, 2, 16, 16))
    y = net.Transpose(net.MatMul(net.Softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
    y = _linear(net, net.Reshape(y, net.ints(-1, 16, 12)), 12, 12)
    y = net.Transpose(net.Reshape(y, net.ints(-1, 2, 2, 4, 4, 12)), perm=[0, 1, 3, 2, 4, 5])
    y = net.Reshape(y, net.ints(-1, 8, 8, 12))
    return _rolled(net, y, -shift, 8) if shift else y


@pytest.mark.parametrize("cut", ["slice", "gather"])  # torch.export, TorchScript
def test_swin(cut, tmp_path):
    """A block with windows and one with shifted windows."""
    net = Net(x=(2, 8, 8, 12))
    y = "x"
    for shift in (0, 2):
        y = net.Add(y, _windowed(net, _layer_norm(net, y, 12), shift, cut))
        y = net.Reshape(y, net.ints(2, 64, 12))
        hidden = _gelu(net, _linear(net, _layer_norm(net, y, 12), 12, 24))
        y = net.Reshape(net.Add(y, _linear(net, hidden, 24, 12)), net.ints(2, 8, 8, 12))
    work = keeps_numbers(net.model(y), tmp_path)
    assert _count(work) == {"norm": 4, "linear": 4, "attention": 2, "mlp": 2}
    plain, shifted = (g.spec for g in work.fusions.groups if g.fusion == "attention")
    assert (plain.batch, plain.heads, plain.keys) == (8, 2, 16)
    assert (plain.mask, plain.mask_shape, plain.bias) == ("add", (1, 2, 16, 16), None)
    assert (shifted.mask_shape, shifted.bias) == ((1, 4, 1, 16, 16), (1, 2, 16, 16))
    assert plain.joint == shifted.joint == (cut == "slice")


def _rms(net: Net, x: str, width: int) -> str:
    square = net.ReduceMean(net.Pow(x, 2.0), axes=[-1])
    y = net.Mul(x, net.Reciprocal(net.Sqrt(net.Add(square, 1e-6))))
    return net.Mul(net.weight(width, near=1), y)


def _rotate(net: Net, x: str, size: int) -> str:
    half = size // 2
    first = net.Slice(x, net.ints(0), net.ints(half), net.ints(3))
    second = net.Slice(x, net.ints(half), net.ints(2**63 - 1), net.ints(3))
    turned = net.Concat(net.Neg(second), first, axis=-1)
    return net.Add(net.Mul(x, "cos"), net.Mul(turned, "sin"))


def test_llama(tmp_path):
    """Grouped queries with rotary positions, a gated MLP, three RMS norms."""
    net = Net(x=(1, 5, 16), cos=(1, 1, 5, 4), sin=(1, 1, 5, 4))
    n = _rms(net, "x", 16)

    def heads(count: int) -> str:
        y = net.Reshape(_linear(net, n, 16, 4 * count, bias=False), net.ints(0, -1, count, 4))
        return net.Transpose(y, perm=[0, 2, 1, 3])

    def repeated(y: str) -> str:
        wide = net.Expand(net.Unsqueeze(y, net.ints(2)), net.ints(1, 2, 2, 5, 4))
        return net.Reshape(wide, net.ints(1, 4, 5, 4))

    q, k, v = _rotate(net, heads(4), 4), repeated(_rotate(net, heads(2), 4)), repeated(heads(2))
    scores = net.Mul(net.MatMul(q, net.Transpose(k, perm=[0, 1, 3, 2])), 0.5)
    scores = net.Add(scores, net.const(np.triu(np.full((5, 5), -1e9), 1)))
    y = net.Transpose(net.MatMul(net.Softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
    y = net.Add("x", _linear(net, net.Reshape(y, net.ints(0, -1, 16)), 16, 16, bias=False))
    n = _rms(net, y, 16)
    gate = net.Mul(_silu(net, _linear(net, n, 16, 24, False)), _linear(net, n, 16, 24, False))
    y = _rms(net, net.Add(y, _linear(net, gate, 24, 16, bias=False)), 16)
    work = keeps_numbers(net.model(y), tmp_path)
    assert _count(work) == {"norm": 3, "linear": 2, "rotary": 2, "attention": 1, "mlp": 1}
    (attention,) = (g.spec for g in work.fusions.groups if g.fusion == "attention")
    assert (attention.heads, attention.kv_heads, attention.causal) == (4, 2, True)
    (mlp,) = (g.spec for g in work.fusions.groups if g.fusion == "mlp")
    assert mlp.gated and str(mlp.activation) == "silu"


def test_inception(tmp_path):
    """Parallel convolutions and the concat that joins them."""
    net = Net(x=(1, 4, 6, 6))
    y = net.Concat(*[net.Relu(_conv(net, "x", 4, 3, k)) for k in (1, 3, 5)], axis=1)
    work = keeps_numbers(net.model(y), tmp_path)
    assert _count(work) == {"conv_concat": 1}


def test_the_small_models_of_other_tests(tmp_path):
    assert names(keeps_numbers(models.mlp_block(), tmp_path)) == ["norm", "mlp"]
    expected = ["conv_block", "conv_block", "pool_linear", "softmax"]
    assert names(keeps_numbers(models.conv_net(), tmp_path)) == expected
