from __future__ import annotations

import json

import pytest

from tests import models
from tests.net import Net
from tilewright import CompileOptions, analyze


@pytest.fixture
def analysed(here):
    def run(net: Net | object, *outputs: str, **fields: object) -> dict:
        proto = net.model(*outputs) if isinstance(net, Net) else net
        return analyze(proto, "x86-64-avx2", options=CompileOptions(**fields))

    return run


def _toy() -> tuple[Net, str]:
    """Three operators in one group."""
    net = Net(x=(4, 8))
    return net, net.Relu(net.Add(net.MatMul("x", net.weight(8, 16)), net.weight(16)))


def test_a_toy_by_hand(analysed):
    report = analysed(*_toy())
    product = 4 * (4 * 8 + 8 * 16 + 4 * 16)
    before = product + 4 * (64 + 16 + 64) + 4 * (64 + 64)
    after = 4 * (4 * 8 + 8 * 16 + 16 + 4 * 16)
    assert report["flops"] == 2 * 8 * 64 + 64 + 64
    assert (report["bytes_before"], report["bytes_after"]) == (before, after)
    assert report["traffic_reduction"] == pytest.approx(1 - after / before)
    assert report["coverage"] == dict.fromkeys(("operators", "groups", "flops", "bytes"), 1.0)
    assert (report["operators_before"], report["operators_after"]) == (3, 1)
    assert report["leftovers"] == [] and report["near_misses"] == []
    (group,) = report["groups"]
    assert group["nodes"] == ["n_matmul0 (MatMul)", "n_add1 (Add)", "n_relu2 (Relu)"]
    assert report["order"] == group["nodes"]
    assert (group["operators"], group["spec"]["epilogue"]) == (3, ["bias", "relu"])
    assert group["bytes_saved"] == before - after
    assert group["intensity_before"] == pytest.approx(report["flops"] / before)
    assert group["intensity_after"] == pytest.approx(report["flops"] / after)
    assert group["bound"] == "bandwidth" and group["intensity_after"] < report["ridge"]
    (pattern,) = report["patterns"]
    assert (pattern["fusion"], pattern["count"], pattern["average_operators"]) == ("linear", 1, 3)


def test_without_fusions_nothing_is_covered(analysed):
    report = analysed(*_toy(), disable=("linear", "fuse_ops"))
    assert report["coverage"] == dict.fromkeys(("operators", "groups", "flops", "bytes"), 0.0)
    assert report["operators_after"] == 3 and report["traffic_reduction"] == 0
    assert [left["operator"] for left in report["leftovers"]] == ["MatMul", "Add", "Relu"]
    assert {left["reason"] for left in report["leftovers"]} == {
        "no fusion has a pattern for it here"
    }


@pytest.mark.parametrize("net", [models.conv_net, models.mlp_block], ids=lambda net: net.__name__)
def test_is_json_and_adds_up(net, analysed):
    report = analysed(net())
    assert json.loads(json.dumps(report)) == report
    assert report["operators_after"] <= report["operators_before"]
    assert report["bytes_after"] <= report["bytes_before"]
    assert all(0 <= share <= 1 for share in report["coverage"].values())
    inside = [name for group in report["groups"] for name in group["nodes"]]
    assert len(set(inside)) == len(inside), "a node is in one group"
    counts = {row["fusion"]: row["count"] for row in report["patterns"]}
    fused = [g["fusion"] for g in report["groups"] if g["operators"] >= 2]
    assert counts == {name: fused.count(name) for name in fused}


def test_a_folded_batch_norm_is_covered(analysed):
    report = analysed(models.conv_net())
    shown = json.dumps([report["leftovers"], [g["nodes"] for g in report["groups"]]])
    assert "BatchNormalization" not in json.dumps(report["leftovers"])
    assert report["coverage"]["operators"] > 0.8, shown


def test_leftovers_and_near_misses_say_why(analysed):
    net = Net(x=(1, 4, 5, 5), w=(4, 4, 3, 3))
    report = analysed(net, net.Relu(net.Conv("x", "w")))
    (miss,) = [m for m in report["near_misses"] if m["root"] == "n_conv0 (Conv)"]
    assert miss["fusion"] == "conv_block"
    assert miss["reason"] == "the weights are computed at run time"
    reasons = {left["operator"]: left["reason"] for left in report["leftovers"]}
    assert reasons["Conv"] == "conv_block: the weights are computed at run time"


def test_a_group_of_one_operator_stands_alone(analysed):
    net = Net(x=(1, 4, 5, 5))
    report = analysed(net, net.Conv("x", net.weight(4, 4, 3, 3)))
    assert len(report["groups"]) == 1 and report["patterns"] == []
    (left,) = report["leftovers"]
    assert left["reason"] == "nothing to fuse it with: it stands alone in its group"


def test_a_silu_is_one_operator(analysed):
    net = Net(x=(4, 8))
    y = net.MatMul("x", net.weight(8, 8))
    report = analysed(net, net.Mul(y, net.Sigmoid(y)))
    assert report["operators_before"] == 2 and report["coverage"]["operators"] == 1
    assert report["groups"][0]["operators"] == 2


def test_open_sizes_take_the_given_bounds(analysed):
    def total(rows):
        net = Net(x=("n", 8))
        y = net.Relu(net.MatMul("x", net.weight(8, 16)))
        return analysed(net, y, dims={"n": rows})["flops"]

    row = 16 * (2 * 8 + 1)
    assert total(100) == 100 * row
    assert total((1, 100)) == 9 * row, "the larger of the sizes that the check tries"


def test_compute_bound_above_the_ridge(analysed):
    net = Net(x=(512, 512))
    report = analysed(net, net.Relu(net.MatMul("x", net.weight(512, 512))))
    (group,) = report["groups"]
    assert group["bound"] == "compute" and group["intensity_after"] >= report["ridge"]


def test_a_size_computed_from_open_sizes_counts(analysed):
    def saved(rows):
        net = Net(x=("n", 8))
        twice = net.Concat("x", "x", axis=0)
        report = analysed(
            net, net.Relu(net.Neg(net.MatMul(twice, net.weight(8, 16)))), dims={"n": rows}
        )
        return next(g for g in report["groups"] if g["fusion"] == "linear")["bytes_after"]

    assert saved(100) - saved(50) == 4 * (2 * 50 * 8 + 2 * 50 * 16)


def test_a_miss_that_another_fusion_took_says_so(analysed):
    net = Net(x=(1, 8, 4, 4))
    squeezed = net.Relu(net.Conv(net.GlobalAveragePool("x"), net.weight(4, 8, 1, 1)))
    gate = net.Tanh(net.Conv(squeezed, net.weight(8, 4, 1, 1)))
    report = analysed(net, net.Conv(net.Mul("x", gate), net.weight(8, 8, 1, 1)))
    misses = [m for m in report["near_misses"] if m["fusion"] == "squeeze_excitation"]
    assert "conv_block" in {miss["taken_by"] for miss in misses}
    assert all(miss["reason"].startswith("the gate is tanh") for miss in misses)


def test_equal_layers_are_shown_as_blocks(analysed):
    net = Net(x=(4, 8))
    y = "x"
    for _ in range(3):
        y = net.Add(y, net.MatMul(net.Relu(net.MatMul(y, net.weight(8, 16))), net.weight(16, 8)))
        y = net.Relu(net.MatMul(y, net.weight(8, 8)))
    (block,) = analysed(net, y)["blocks"]
    assert (block["count"], block["of"]) == (3, ["mlp", "linear"])
    assert block["first"].endswith("(MatMul)") and block["last"].endswith("(Relu)")
