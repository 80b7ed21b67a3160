from __future__ import annotations

import pytest

from tests.net import Net, declined, groups, keeps_numbers


def _pooled(net: Net, form: str) -> str:
    if form == "mean":
        return net.ReduceMean("x", axes=[2, 3], keepdims=0)
    y = net.GlobalAveragePool("x")
    if form == "flatten":
        return net.Flatten(y)
    if form == "two_reshapes":
        return net.Reshape(net.Squeeze(y, net.ints(3)), net.ints(2, 8))
    return net.Reshape(y, net.ints(2, -1)) if form == "reshape" else net.Squeeze(y, net.ints(2, 3))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["mean", "flatten", "reshape", "squeeze", "two_reshapes"])
def test_fuses_each_form(form, bias, tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = net.MatMul(_pooled(net, form), net.weight(8, 3))
    y = net.Add(y, net.weight(3)) if bias else y
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["pool_linear bias" if bias else "pool_linear"]
    spec = work.fusions.groups[0].spec
    assert (spec.x, spec.w, spec.pooled) == ((2, 8, 5, 5), (8, 3), True)


def test_fuses_an_open_batch(tmp_path):
    net = Net(x=("n", 8, 5, 5))
    y = net.Gemm(net.Flatten(net.GlobalAveragePool("x")), net.weight(8, 3), net.weight(3))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["pool_linear bias"] and work.fusions.groups[0].spec.m == "n"


def test_declines_a_mean_over_other_axes(tmp_path):
    net = Net(x=(2, 8, 5))
    y = net.MatMul(net.ReduceMean("x", axes=[1], keepdims=0), net.weight(5, 3))
    work = keeps_numbers(net.model(y), tmp_path, only=("fold_constants", "pool_linear"))
    assert groups(work) == []
    reason = "the mean is over axes [1], want all positions"
    assert declined(work, "pool_linear") == {reason}


def test_declines_a_mean_of_everything(tmp_path):
    net = Net(x=(2, 8))
    y = net.Gemm(net.ReduceMean("x", keepdims=1), net.weight(1, 3))
    work = keeps_numbers(net.model(y), tmp_path, disable=("linear",))
    assert groups(work) == []
    reason = "the mean is over axes [0, 1], want all positions"
    assert declined(work, "pool_linear") == {reason}


def test_declines_a_mean_in_another_shape(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = net.Reshape(net.GlobalAveragePool("x"), net.ints(4, 4))
    work = keeps_numbers(net.model(net.MatMul(y, net.weight(4, 3))), tmp_path, disable=("linear",))
    assert groups(work) == []
    assert declined(work, "pool_linear") == {"the product is of (4, 4) and (4, 3), want (2, 8)"}


def test_declines_a_bias_per_row(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = net.Add(net.MatMul(_pooled(net, "mean"), net.weight(8, 3)), net.weight(2, 1))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["pool_linear"]
    reason = "bias has shape (2, 1), want one value per column of (2, 3)"
    assert declined(work, "pool_linear") == {reason}


def test_a_vector_of_weights_is_no_matrix(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    keeps_numbers(net.model(net.MatMul(_pooled(net, "mean"), net.weight(8))), tmp_path)


@pytest.mark.parametrize("shared", ["globalaveragepool0", "flatten1"])
def test_leaves_shared_value_alone(shared, tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = net.MatMul(_pooled(net, "flatten"), net.weight(8, 3))
    work = keeps_numbers(net.model(y, net.Neg(shared)), tmp_path)
    assert groups(work) == ["linear"]


def test_computed_weights_leave_the_pool_outside(tmp_path):
    net = Net(x=(2, 8, 5, 5), w=(8, 3))
    work = keeps_numbers(net.model(net.MatMul(_pooled(net, "mean"), "w")), tmp_path)
    assert groups(work) == ["linear"]
