from __future__ import annotations

import numpy as np
import pytest

import tilewright
from tests.net import Net, fused, groups, keeps_numbers, names
from tilewright.compiler.pipeline import Work

WIDTH, SIZE, TOKENS = 12, 4, 5


def _linear(net: Net, x: str, columns: int = WIDTH, bias: str | None = "row") -> str:
    y = net.MatMul(x, net.weight(WIDTH, columns))
    shapes = {"row": (columns,), "one": (1,), "whole": (TOKENS, columns)}
    return net.Add(y, net.weight(*shapes[bias])) if bias else y


def _attention(net: Net, q: str, k: str, v: str) -> str:
    """Of projections; heads of keys and values are repeated where they are fewer."""
    q, k, v = (
        net.Transpose(net.Reshape(x, net.ints(0, TOKENS, -1, SIZE)), perm=[0, 2, 1, 3])
        for x in (q, k, v)
    )
    return _attend(net, q, k, v)


def _attend(net: Net, q: str, k: str, v: str) -> str:
    scores = net.Mul(net.MatMul(q, net.Transpose(k, perm=[0, 1, 3, 2])), 0.5)
    y = net.MatMul(net.Softmax(scores, axis=-1), v)
    return net.Reshape(net.Transpose(y, perm=[0, 2, 1, 3]), net.ints(0, TOKENS, -1))


def _repeat(net: Net, x: str) -> str:
    """One head to three."""
    wide = net.Expand(net.Unsqueeze(x, net.ints(2)), net.ints(2, 1, 3, TOKENS, SIZE))
    return net.Reshape(wide, net.ints(2, 3, TOKENS, SIZE))


def _net() -> Net:
    return Net(x=(2, TOKENS, WIDTH), e=(2, TOKENS, WIDTH))


def _columns(work: Work) -> list[int]:
    return [g.spec.n for g in work.fusions.groups if g.fusion == "linear"]


BIASES = (("row", "row", "row"), ("row", None, "row"), (None, None, None), ("one", "row", None))


@pytest.mark.parametrize("biases", BIASES, ids=str)
def test_merges_three_projections(biases, tmp_path):
    net = _net()
    y = _attention(net, *(_linear(net, "x", bias=bias) for bias in biases))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == [f"linear{' bias' if any(biases) else ''}", "attention"]
    assert _columns(work) == [3 * WIDTH]
    spec = work.fusions.groups[1].spec
    assert spec.joint and spec.q.shape == (2, TOKENS, 3 * WIDTH)
    assert [part.views[0] for part in (spec.q, spec.k, spec.v)] == [
        ("slice", (2, begin, begin + WIDTH, 1)) for begin in (0, WIDTH, 2 * WIDTH)
    ]


def test_merges_keys_and_values_of_cross_attention(tmp_path):
    net = _net()
    y = _attention(net, _linear(net, "x"), _linear(net, "e", bias=None), _linear(net, "e"))
    work = keeps_numbers(net.model(y), tmp_path)
    assert _columns(work) == [WIDTH, 2 * WIDTH]
    spec = work.fusions.groups[2].spec
    assert [spec.q.source, spec.k.source, spec.v.source] == [0, 1, 1]


def test_merges_grouped_queries(tmp_path):
    net = _net()
    q, k, v = (_linear(net, "x", columns) for columns in (WIDTH, SIZE, SIZE))
    q, k, v = (
        net.Transpose(net.Reshape(x, net.ints(0, TOKENS, -1, SIZE)), perm=[0, 2, 1, 3])
        for x in (q, k, v)
    )
    y = _attend(net, q, _repeat(net, k), _repeat(net, v))
    work = keeps_numbers(net.model(y), tmp_path)
    assert _columns(work) == [WIDTH + 2 * SIZE] and names(work) == ["linear", "attention"]


def test_merges_before_a_rotary_embedding(tmp_path):
    net = Net(x=(2, TOKENS, WIDTH), cos=(1, 1, TOKENS, SIZE), sin=(1, 1, TOKENS, SIZE))

    def turned(x: str) -> str:
        first = net.Slice(x, net.ints(0), net.ints(SIZE // 2), net.ints(3))
        second = net.Slice(x, net.ints(SIZE // 2), net.ints(SIZE), net.ints(3))
        other = net.Concat(net.Neg(second), first, axis=-1)
        return net.Add(net.Mul(x, "cos"), net.Mul(other, "sin"))

    q, k, v = (
        net.Transpose(
            net.Reshape(_linear(net, "x"), net.ints(0, TOKENS, 3, SIZE)), perm=[0, 2, 1, 3]
        )
        for _ in range(3)
    )
    work = keeps_numbers(net.model(_attend(net, turned(q), turned(k), v)), tmp_path)
    assert names(work) == ["linear", "rotary", "rotary", "attention"]
    assert _columns(work) == [3 * WIDTH]


def test_merges_an_open_batch(tmp_path):
    net = Net(x=("n", TOKENS, WIDTH))
    y = _attention(net, *(_linear(net, "x") for _ in range(3)))
    assert _columns(keeps_numbers(net.model(y), tmp_path)) == [3 * WIDTH]


def test_the_joint_product_stands_for_the_nodes_it_merged(tmp_path):
    net = _net()
    y = _attention(net, _linear(net, "x"), _linear(net, "x", bias=None), _linear(net, "x"))
    work = fused(net.model(y), tmp_path)
    linear, attention = work.fusions.groups
    nodes = [work.origins[member] for member in linear.members]
    assert nodes == [
        ("n_matmul0 (MatMul)", "n_matmul2 (MatMul)", "n_matmul3 (MatMul)"),
        ("n_add1 (Add)", "n_add4 (Add)"),
    ]
    # The slices are of no node, although they bear the names of the projections.
    assert len([member for member in attention.members if member not in work.origins]) == 3


def _unmerged(net: Net, *outputs: str, tmp_path) -> list[int]:
    return _columns(keeps_numbers(net.model(*outputs), tmp_path))


def test_leaves_different_inputs_alone(tmp_path):
    net = Net(x=(2, TOKENS, WIDTH), e=(2, TOKENS, WIDTH), f=(2, TOKENS, WIDTH))
    y = _attention(net, *(_linear(net, x) for x in "xef"))
    assert _unmerged(net, y, tmp_path=tmp_path) == [WIDTH] * 3


@pytest.mark.parametrize("read", ["result", "product"])
def test_leaves_a_shared_projection_alone(read, tmp_path):
    net = _net()
    q = _linear(net, "x")
    product = net.made[0]
    y = _attention(net, q, _linear(net, "x"), _linear(net, "x"))
    shared = net.Neg(q if read == "result" else product)
    found = _unmerged(net, y, shared, tmp_path=tmp_path)
    assert found == [WIDTH, 2 * WIDTH], "the other two merge"


def test_leaves_computed_weights_alone(tmp_path):
    net = Net(x=(2, TOKENS, WIDTH), w=(WIDTH, WIDTH))
    y = _attention(net, *(net.MatMul("x", net.Neg("w")) for _ in range(3)))
    work = keeps_numbers(net.model(y), tmp_path)
    assert not any(n > WIDTH for n in _columns(work))


def test_leaves_weights_with_a_batch_alone(tmp_path):
    net = _net()
    parts = (net.MatMul("x", net.weight(2, WIDTH, WIDTH)) for _ in range(3))
    assert _unmerged(net, _attention(net, *parts), tmp_path=tmp_path) == [WIDTH] * 3


def test_leaves_a_bias_per_token_alone(tmp_path):
    net = _net()
    parts = (_linear(net, "x", bias=bias) for bias in ("whole", "row", "row"))
    work = keeps_numbers(net.model(_attention(net, *parts)), tmp_path)
    assert [p.spec.n for p in work.fusions.groups if p.fusion == "linear"][-1] == 2 * WIDTH


def test_leaves_layers_alone_that_feed_no_attention(tmp_path):
    net = _net()
    y = net.Concat(*(net.Tanh(_linear(net, "x")) for _ in range(3)), axis=-1)
    assert _unmerged(net, y, tmp_path=tmp_path) == [WIDTH] * 3


@pytest.mark.parametrize("off", ["merge_projections", "attention"])
def test_is_off_by_name_and_without_attention(off, tmp_path):
    net = _net()
    y = _attention(net, *(_linear(net, "x") for _ in range(3)))
    work = keeps_numbers(net.model(y), tmp_path, disable=(off,))
    assert _columns(work).count(WIDTH) == 3


def test_works_with_a_list_of_fusions_that_came_from_elsewhere(tmp_path):
    """A list that a user gives reaches the child process as a copy."""
    net = _net()
    y = _attention(net, *(_linear(net, "x") for _ in range(3)))
    found = tilewright.analyze(net.model(y), fusions=(*tilewright.DEFAULT_FUSIONS,))
    assert [g["spec"]["w"][-1] for g in found["groups"] if g["fusion"] == "linear"] == [3 * WIDTH]
    nodes = next(g["nodes"] for g in found["groups"] if g["fusion"] == "linear")
    assert [name.split()[1] for name in nodes] == ["(MatMul)"] * 3 + ["(Add)"] * 3


def test_double_precision_keeps_its_type(tmp_path):
    net = Net(x=(2, TOKENS, WIDTH))
    x = net.Cast("x", to=11)
    parts = []
    for number, bias in enumerate((True, False, True)):
        y = net.MatMul(x, net.const(np.full((WIDTH, WIDTH), number), np.float64))
        parts.append(net.Add(y, net.const(np.ones(WIDTH), np.float64)) if bias else y)
    q, k, v = (
        net.Transpose(net.Reshape(p, net.ints(0, TOKENS, -1, SIZE)), perm=[0, 2, 1, 3])
        for p in parts
    )
    scores = net.MatMul(q, net.Transpose(k, perm=[0, 1, 3, 2]))
    y = net.Cast(net.MatMul(net.Softmax(scores, axis=-1), v), to=1)
    work = fused(net.model(y), tmp_path)
    assert [(g.spec.n, g.spec.dtype) for g in work.fusions.groups[:1]] == [(3 * WIDTH, "float64")]
