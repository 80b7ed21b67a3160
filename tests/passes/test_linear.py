from __future__ import annotations

import pytest

from tests.net import Net, declined, fused, groups, keeps_numbers


def test_fuses_gemm_with_its_bias(tmp_path):
    net = Net(x=(3, 8), t=(8, 3))
    plain = net.Relu(net.Gemm("x", net.weight(8, 5), net.weight(5)))
    turned = net.Relu(net.Gemm("x", net.weight(5, 8), net.weight(1, 5), transB=1))
    both = net.Gemm("t", net.weight(5, 8), net.weight(5), transA=1, transB=1)
    scaled = net.Gemm("x", net.weight(8, 5), net.weight(5), alpha=0.5, beta=2.0)
    work = keeps_numbers(net.model(plain, turned, both, scaled), tmp_path)
    assert groups(work)[:3] == ["linear bias relu"] * 2 + ["linear bias"]


@pytest.mark.parametrize("shape", [(7, 8), (2, 7, 8), (2, 3, 7, 8)])
def test_fuses_matmul_and_add_in_both_orders(shape, tmp_path):
    net = Net(x=shape)
    one = net.Tanh(net.Add(net.MatMul("x", net.weight(8, 5)), net.weight(5)))
    two = net.Tanh(net.Add(net.weight(1, 5), net.MatMul("x", net.weight(8, 5))))
    work = keeps_numbers(net.model(one, two), tmp_path)
    assert groups(work) == ["linear bias tanh"] * 2
    spec = work.fusions.groups[0].spec
    assert (spec.batch, spec.m, spec.n, spec.k) == (shape[:-2], 7, 5, 8)
    assert spec.constant_weights


def test_fuses_a_product_of_two_computed_values(tmp_path):
    net = Net(x=(2, 7, 8), w=(2, 8, 5))
    work = keeps_numbers(net.model(net.Relu(net.MatMul("x", "w"))), tmp_path)
    assert groups(work) == ["linear relu"]
    assert not work.fusions.groups[0].spec.constant_weights


def test_fuses_an_open_batch(tmp_path):
    net = Net(x=("n", 7, 8))
    y = net.Add("x", net.Add(net.MatMul("x", net.weight(8, 8)), net.weight(8)))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["linear bias residual"]
    assert work.fusions.groups[0].spec.batch == ("n",)


def test_declines_a_vector(tmp_path):
    net = Net(x=(8,))
    work = keeps_numbers(net.model(net.Relu(net.MatMul("x", net.weight(8, 5)))), tmp_path)
    assert groups(work) == []
    assert "a shape is not known, or a factor is a vector" in declined(work, "linear")


def test_declines_a_bias_per_row(tmp_path):
    net = Net(x=(2, 7, 8), r=(2, 7, 5))
    y = net.Add(net.Add(net.MatMul("x", net.weight(8, 5)), net.weight(7, 1)), "r")
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["linear"]
    reason = "bias has shape (7, 1), want one value per column of (2, 7, 5)"
    assert reason in declined(work, "linear")


def test_a_square_constant_is_a_residual(tmp_path):
    net = Net(x=(7, 8))
    work = keeps_numbers(
        net.model(net.Add(net.MatMul("x", net.weight(8, 7)), net.weight(7, 7))), tmp_path
    )
    assert groups(work) == ["linear residual"]


@pytest.mark.parametrize("shape", [(5,), (7, 1), (1, 7, 5), (1,)])
def test_declines_a_residual_that_broadcasts(shape, tmp_path):
    net = Net(x=(2, 7, 8), r=shape)
    work = keeps_numbers(
        net.model(net.Relu(net.Add(net.MatMul("x", net.weight(8, 5)), "r"))), tmp_path
    )
    assert groups(work) == ["linear"]
    assert declined(work, "linear") == {f"what is added has shape {shape}, want (2, 7, 5)"}


@pytest.mark.parametrize("shared", ["matmul0", "add1", "relu2"])
def test_leaves_shared_value_alone(shared, tmp_path):
    net = Net(x=(2, 7, 8), r=(2, 7, 5))
    y = net.Relu(net.Add(net.MatMul("x", net.weight(8, 5)), net.weight(5)))
    proto = net.model(net.Add(y, "r"), net.Neg(shared))
    first = {"matmul0": "linear", "add1": "linear bias", "relu2": "linear bias relu"}[shared]
    work = keeps_numbers(proto, tmp_path)
    assert groups(work)[0] == first
    assert any(
        f"n_{shared} (" in why and "has a second reader" in why for why in declined(work, "linear")
    )


def test_a_bias_may_be_one_number(tmp_path):
    net = Net(x=(2, 7, 8))
    work = keeps_numbers(net.model(net.Add(net.MatMul("x", net.weight(8, 5)), 0.5)), tmp_path)
    assert groups(work) == ["linear bias"]


def test_stops_at_a_cast(tmp_path):
    net = Net(x=(2, 7, 8))
    y = net.Cast(net.Cast(net.MatMul("x", net.weight(8, 5)), to=10), to=1)
    assert groups(fused(net.model(net.Relu(y)), tmp_path)) == ["linear"]


@pytest.mark.parametrize("product", ["Gemm", "Conv"])
@pytest.mark.parametrize("active", [False, True])
def test_what_is_added_to_itself_is_no_residual(product, active, tmp_path):
    shape, weights = ((7, 2), (2, 5)) if product == "Gemm" else ((1, 2, 7, 7), (5, 2, 1, 1))
    net = Net(x=shape)
    y = net.add(product, "x", net.weight(*weights), net.weight(5))
    y = net.Relu(y) if active else y
    keeps_numbers(net.model(net.Add(y, y)), tmp_path)
