from __future__ import annotations

import numpy as np
import pytest

from tests.net import CONTRIB, Net, declined, groups, keeps_numbers

EPSILON = 1e-5


def _layer(net: Net, x: str, square: str = "pow", end: str = "div", axes: tuple = (-1,)) -> str:
    centred = net.Sub(x, net.ReduceMean(x, axes=list(axes)))
    return _over_deviation(net, centred, centred, square, end, axes)


def _over_deviation(net: Net, x: str, of: str, square: str, end: str, axes: tuple = (-1,)) -> str:
    squared = net.Pow(of, 2.0) if square == "pow" else net.Mul(of, of)
    variance = net.Add(net.ReduceMean(squared, axes=list(axes)), EPSILON)
    deviation = net.Sqrt(variance)
    if end == "div":
        return net.Div(x, deviation)
    if end == "one_over":
        return net.Mul(net.Div(1.0, deviation), x)
    return net.Mul(x, net.Reciprocal(deviation))


@pytest.mark.parametrize("end", ["div", "one_over", "reciprocal"])
@pytest.mark.parametrize("square", ["pow", "mul"])
def test_fuses_written_out_norms(square, end, tmp_path):
    net = Net(x=(2, 5, 8))
    layer = _layer(net, "x", square, end)
    layer = net.Add(net.weight(8), net.Mul(layer, net.weight(8, near=1)))
    rms = net.Mul(net.weight(8, near=1), _over_deviation(net, "x", "x", square, end))
    bare = _over_deviation(net, net.Neg("x"), net.Abs("x"), square, end)  # No norm: two values.
    work = keeps_numbers(net.model(layer, rms, bare), tmp_path)
    assert groups(work) == ["norm layer", "norm rms"]
    spec = work.fusions.groups[0].spec
    assert spec.axes == (2,) and spec.epsilon == EPSILON and not spec.skip
    assert [(g.spec.weight, g.spec.bias) for g in work.fusions.groups] == [
        (True, b) for b in (1, 0)
    ]


def test_fuses_native_norms(tmp_path):
    net = Net(opset=23, x=(2, 4, 6, 8))
    layer = net.LayerNormalization("x", net.weight(8), net.weight(8), axis=-1, epsilon=1e-4)
    wide = net.LayerNormalization("x", net.weight(6, 8), axis=2)
    rms = net.RMSNormalization("x", net.weight(8), axis=-1)
    instance = net.InstanceNormalization("x", net.weight(4), net.weight(4))
    group = net.GroupNormalization("x", net.weight(4), net.weight(4), num_groups=2)
    work = keeps_numbers(net.model(layer, wide, rms, instance, group), tmp_path)
    methods = ("layer", "layer", "rms", "instance", "group scale bias")
    assert groups(work) == [f"norm {method}" for method in methods]
    first, second, third, _, last = (group.spec for group in work.fusions.groups)
    assert first.axes == (3,) and first.epsilon == 1e-4
    assert second.axes == (2, 3) and (first.groups, last.groups) == (1, 2)
    assert (first.weight, first.bias, third.weight, third.bias) == (True, True, True, False)


def test_fuses_a_group_norm_made_of_reshapes(tmp_path):
    """torch exports GroupNorm as an instance norm of groups with its weights after a reshape."""
    net = Net(x=(1, 8, 6, 6))
    y = net.Reshape("x", net.ints(1, 2, -1))
    y = net.InstanceNormalization(y, net.const(np.ones(2)), net.const(np.zeros(2)))
    y = net.Reshape(y, net.ints(1, 8, 6, 6))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["norm instance"]


@pytest.mark.parametrize("kind", ["native", "written", "contrib"])
def test_fuses_the_sum_before(kind, tmp_path):
    net = Net(x=(2, 5, 8), s=(2, 5, 8))
    if kind == "contrib":
        parts = [net.weight(8, near=1), net.weight(8), net.weight(8)]
        y = net.SkipLayerNormalization("x", "s", *parts, domain=CONTRIB)
    else:
        total = net.Add("x", "s")
        y = (
            _layer(net, total)
            if kind == "written"
            else net.LayerNormalization(total, net.weight(8))
        )
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["norm layer"]
    # ONNX Runtime's operator adds a bias last: a sum with a constant.
    assert work.fusions.groups[0].spec.skip == (kind != "contrib")


def test_leaves_shared_value_alone(tmp_path):
    """The sum of a pre-norm layer is read again: it stays, and the norm is fused."""
    net = Net(x=(2, 5, 8), s=(2, 5, 8))
    total = net.Add("x", "s")
    y = net.Add(net.LayerNormalization(total, net.weight(8)), total)
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["norm layer"] and not work.fusions.groups[0].spec.skip


@pytest.mark.parametrize("inner", [2, 4, 5], ids=["centred", "mean", "deviation"])
def test_leaves_shared_values_of_a_written_norm_alone(inner, tmp_path):
    net = Net(x=(2, 5, 8))
    y = _layer(net, "x")
    work = keeps_numbers(net.model(y, net.Neg(net.made[inner - 1])), tmp_path)
    # The centred value may be read by all: its RMS norm is a group without it.
    assert groups(work) == (["norm rms"] if inner == 2 else [])
    assert inner == 2 or any("has a second reader" in why for why in declined(work, "norm"))


@pytest.mark.parametrize("other", [(8,), (2, 5, 8), (5, 8)], ids=str)
def test_a_sum_with_a_constant_or_a_broadcast_stays_outside(other, tmp_path):
    net = Net(x=(2, 5, 8), s=other)
    added = net.weight(8) if other == (8,) else "s"
    y = net.LayerNormalization(net.Add("x", added), net.weight(8))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["norm layer"]
    assert work.fusions.groups[0].spec.skip == (other == (2, 5, 8))


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_declines_a_mean_over_other_axes(kind, tmp_path):
    net = Net(x=(2, 5, 8))
    y = _layer(net, "x", axes=(1,))
    if kind == "rms":
        y = _over_deviation(net, "x", "x", "pow", "div", axes=(1,))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == []
    assert declined(work, "norm") == {"the mean is over axes (1,), want the last ones"}


def test_declines_two_means_over_different_axes(tmp_path):
    net = Net(x=(2, 5, 8))
    centred = net.Sub("x", net.ReduceMean("x", axes=[1]))
    y = _over_deviation(net, centred, centred, "pow", "div")
    work = keeps_numbers(net.model(y), tmp_path)
    # What is left is the RMS norm of a value that happens to be centred.
    assert groups(work) == ["norm rms"] and len(work.fusions.groups[0].members) == 5


def test_declines_an_epsilon_of_many_numbers(tmp_path):
    net = Net(x=(2, 5, 8))
    square = net.ReduceMean(net.Mul("x", "x"), axes=[-1])
    y = net.Div("x", net.Sqrt(net.Add(square, net.weight(5, 1, near=3))))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == [] and declined(work, "norm") == {"epsilon is not one number"}


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_declines_weights_along_another_axis(part, tmp_path):
    net = Net(x=(2, 5, 8))
    y = net.Mul(_layer(net, "x"), net.weight(*((5, 1) if part == "weight" else (8,))))
    y = net.Add(y, net.weight(*((5, 1) if part == "bias" else (8,))))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["norm layer"]
    reason = f"the {part} has shape (5, 1), and the mean is over axes (2,)"
    assert reason in declined(work, "norm")


def test_fuses_an_open_batch(tmp_path):
    net = Net(x=("n", 5, 8))
    work = keeps_numbers(net.model(net.Mul(_layer(net, "x"), net.weight(8))), tmp_path)
    assert groups(work) == ["norm layer"] and work.fusions.groups[0].spec.x == ("n", 5, 8)


def test_stops_at_a_cast(tmp_path):
    net = Net(x=(2, 5, 8))
    square = net.ReduceMean(net.Cast(net.Cast(net.Mul("x", "x"), to=10), to=1), axes=[-1])
    y = net.Div("x", net.Sqrt(net.Add(square, EPSILON)))
    assert groups(keeps_numbers(net.model(y), tmp_path)) == []
