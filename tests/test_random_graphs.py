"""Random graphs around each pattern, matching and almost matching: fusion changes no result.

Each is compiled with all fusions and with none, and both must agree with ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.net import Net, keeps_numbers
from tests.passes.forms import every_form
from tilewright.passes.fusions import DEFAULT_FUSIONS

NONE = tuple(fusion.name for fusion in DEFAULT_FUSIONS)
SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 11, 13])
FORMS = [form for _, _, form in every_form()]
Draw = Callable


def _maybe(draw: Draw) -> bool:
    return draw(st.booleans())


def _commuted(draw: Draw, op: Callable, a: str, b: str) -> str:
    return op(a, b) if _maybe(draw) else op(b, a)


def _activation(draw: Draw, net: Net, y: str) -> str:
    return draw(st.sampled_from(FORMS))(net, y) if _maybe(draw) else y


def _addend(draw: Draw, net: Net, shape: tuple[int, ...], axis: int) -> str:
    """A bias, a constant along some other axes, or a value with broadcasting or without."""
    kind = draw(st.sampled_from(["bias", "odd", "residual"]))
    if kind == "bias":
        wanted = [1] * len(shape)
        wanted[axis] = shape[axis]
        return net.weight(*wanted)
    thin = [draw(st.sampled_from([size, size, 1])) for size in shape]
    if kind == "odd":
        return net.weight(*thin)
    return net.input(f"r{len(net.made)}", thin, 1)


def _follow(draw: Draw, net: Net, y: str, shape: tuple[int, ...], axis: int) -> str:
    for _ in range(draw(st.integers(0, 2))):
        y = _commuted(draw, net.Add, y, _addend(draw, net, shape, axis))
    y = _activation(draw, net, y)
    return net.Add(y, _addend(draw, net, shape, axis)) if _maybe(draw) else y


def conv_block(draw: Draw) -> tuple[Net, str]:
    batch, size = draw(st.integers(1, 2)), draw(st.integers(3, 7))
    group = draw(st.sampled_from([1, 2, 4]))
    inputs, outputs = group * draw(st.integers(1, 3)), group * draw(st.integers(1, 3))
    kernel = draw(st.integers(1, 3))
    net = Net(opset=20, x=(batch, inputs, size, size))
    w = net.weight(outputs, inputs // group, kernel, kernel)
    bias = [net.weight(outputs)] if _maybe(draw) else []
    y = net.Conv("x", w, *bias, group=group)
    if _maybe(draw):
        stats = [net.weight(outputs, near=2) for _ in range(4)]
        y = net.BatchNormalization(y, *stats)
    elif _maybe(draw):
        y = _commuted(draw, net.Mul, y, net.weight(1, draw(st.sampled_from([1, outputs])), 1, 1))
    side = size - kernel + 1
    y = _follow(draw, net, y, (batch, outputs, side, side), 1)
    if side > 1 and _maybe(draw):
        y = net.MaxPool(y, kernel_shape=[2, 2])
    return net, y


def linear(draw: Draw) -> tuple[Net, str]:
    batch, rows, inner, columns = (draw(SIZES) for _ in range(4))
    net = Net(opset=20, x=(batch, rows, inner))
    y = net.MatMul("x", net.weight(inner, columns))
    return net, _follow(draw, net, y, (batch, rows, columns), 2)


def mlp(draw: Draw) -> tuple[Net, str]:
    rows, inner, hidden, out = (draw(SIZES) for _ in range(4))
    net = Net(opset=20, x=(2, rows, inner), z=(2, rows, inner))

    def layer(x: str, a: int, b: int) -> str:
        y = net.MatMul(x, net.weight(a, b))
        return _commuted(draw, net.Add, y, net.weight(b)) if _maybe(draw) else y

    y = _activation(draw, net, layer("x", inner, hidden))
    if _maybe(draw):
        source = draw(st.sampled_from(["x", "x", "z"]))
        y = _commuted(draw, net.Mul, y, layer(source, inner, hidden))
    y = layer(y, hidden, out)
    return net, _follow(draw, net, y, (2, rows, out), 2)


def attention(draw: Draw) -> tuple[Net, str]:
    heads, size, queries, keys = (draw(st.integers(1, 5)) for _ in range(4))
    width = heads * size
    net = Net(opset=17, q=(2, queries, width), k=(2, keys, width), v=(2, keys, width))
    split = net.ints(0, -1, heads, size)

    def divided(x: str, perm: list[int]) -> str:
        x = net.Mul(x, 0.7) if _maybe(draw) else x
        x = net.Transpose(net.Reshape(x, split), perm=perm)
        return net.Div(x, 1.3) if _maybe(draw) else x

    q = divided("q", [0, 2, 1, 3])
    k = divided("k", [0, 2, 3, 1])
    v = net.Transpose(net.Reshape("v", split), perm=[0, 2, 1, 3])
    scores = net.MatMul(q, k)
    scores = net.Mul(scores, 1 / math.sqrt(size)) if _maybe(draw) else scores
    shape = (2, heads, queries, keys)
    for _ in range(draw(st.integers(0, 2))):
        scores = _commuted(draw, net.Add, scores, _addend(draw, net, shape, 3))
    if _maybe(draw):
        scores = net.Where(net.Greater(scores, 1.0), -1e9, scores)
    weights = net.Softmax(scores, axis=draw(st.sampled_from([-1, -1, -1, 2])))
    if _maybe(draw):
        weights = net.Where(net.IsNaN(weights), 0.0, weights)
    y = net.MatMul(weights, v)
    if _maybe(draw):
        y = net.Reshape(net.Transpose(y, perm=[0, 2, 1, 3]), net.ints(0, -1, width))
    return net, y


def norm(draw: Draw) -> tuple[Net, str]:
    shape = (2, draw(SIZES), draw(st.sampled_from([2, 5, 8, 13])))
    net = Net(opset=17, x=shape, s=shape)
    x = net.Add("x", "s") if _maybe(draw) else "x"
    axes = [draw(st.sampled_from([-1, -1, 1]))]
    if _maybe(draw):
        y = net.LayerNormalization(x, net.weight(shape[2]), net.weight(shape[2]))
    else:
        centred = net.Sub(x, net.ReduceMean(x, axes=axes)) if _maybe(draw) else x
        square = net.Mul(centred, centred) if _maybe(draw) else net.Pow(centred, 2.0)
        deviation = net.Sqrt(net.Add(net.ReduceMean(square, axes=[-1]), 1e-2))
        above = draw(st.sampled_from([centred, centred, x]))
        y = net.Div(above, deviation)
        if _maybe(draw):
            y = net.Mul(net.Reciprocal(deviation), above)
    if _maybe(draw):
        y = _commuted(draw, net.Mul, y, _addend(draw, net, shape, 2))
    return net, (net.Add(y, _addend(draw, net, shape, 2)) if _maybe(draw) else y)


def squeeze_excitation(draw: Draw) -> tuple[Net, str]:
    channels, middle, size = (draw(SIZES) for _ in range(3))
    net = Net(opset=20, x=(2, channels, size, size), z=(2, channels, size, size))
    form = draw(st.sampled_from(["conv", "linear"]))
    if form == "conv":
        y = net.GlobalAveragePool("x")
        y = _activation(draw, net, net.Conv(y, net.weight(middle, channels, 1, 1)))
        y = net.Conv(y, net.weight(channels, middle, 1, 1), net.weight(channels))
    else:
        y = net.Flatten(net.GlobalAveragePool("x"))
        y = _activation(draw, net, net.Gemm(y, net.weight(channels, middle), net.weight(middle)))
        y = net.Gemm(y, net.weight(middle, channels), net.weight(channels))
        y = net.Reshape(y, net.ints(2, channels, 1, 1))
    y = draw(st.sampled_from([net.Sigmoid, net.HardSigmoid, net.Tanh]))(y)
    y = _commuted(draw, net.Mul, draw(st.sampled_from(["x", "x", "z"])), y)
    if _maybe(draw):
        y = net.Conv(y, net.weight(3, channels, 1, 1), net.weight(3))
    return net, y


def rotary(draw: Draw) -> tuple[Net, str]:
    heads, rows, half = draw(SIZES), draw(SIZES), draw(st.integers(1, 4))
    size = 2 * half
    table = (1, 1, rows, size)
    net = Net(opset=17, x=(1, heads, rows, size), cos=table, sin=table)
    cut = draw(st.sampled_from([half, half, 1]))
    first = net.Slice("x", net.ints(0), net.ints(cut), net.ints(3))
    second = net.Slice("x", net.ints(cut), net.ints(size), net.ints(3))
    parts = (net.Neg(second), first) if _maybe(draw) else (net.Neg(first), second)
    turned = net.Concat(*parts, axis=-1)
    straight = _commuted(draw, net.Mul, "x", "cos")
    return net, _commuted(draw, net.Add, straight, _commuted(draw, net.Mul, turned, "sin"))


def embedding(draw: Draw) -> tuple[Net, str]:
    rows, width, count = (draw(SIZES) for _ in range(3))
    net = Net(opset=17)
    ids = net.input("ids", (2, count))
    shape = (2, count, width)
    y = net.Gather(net.weight(rows, width), ids)
    if _maybe(draw):
        y = _commuted(
            draw, net.Add, y, net.Gather(net.weight(3, width), net.input("k", (2, count)))
        )
    if _maybe(draw):
        y = _commuted(draw, net.Add, y, _addend(draw, net, shape, 2))
    if width > 1 and _maybe(draw):
        y = net.LayerNormalization(y, net.weight(width), net.weight(width), epsilon=1e-2)
    return net, (net.Mul(y, 1.5) if _maybe(draw) else y)


AROUND = (conv_block, linear, mlp, attention, norm, squeeze_excitation, rotary, embedding)


@pytest.mark.parametrize("around", AROUND, ids=lambda around: around.__name__)
@settings(max_examples=examples(4))
@given(data=st.data())
def test_fusion_changes_no_result(around, data, tmp_path):
    net, y = around(data.draw)
    outputs = [y]
    if data.draw(st.booleans()):
        numbers = [name for name in net.made if not name.startswith(("isnan", "greater"))]
        outputs.append(net.Neg(data.draw(st.sampled_from(numbers))))
    proto = net.model(*outputs)
    keeps_numbers(proto, tmp_path)
    keeps_numbers(proto, tmp_path, disable=NONE)
