from __future__ import annotations

import pytest

from tests.net import Net, declined, groups, keeps_numbers, names, outside_groups
from tests.passes.forms import FORMS

CHAIN = ["conv_chain"]


def _norm(net: Net, y: str, channels: int) -> str:
    return net.BatchNormalization(y, *[net.weight(channels, near=2) for _ in range(4)])


def _first(net: Net, x: str = "x") -> str:
    return _norm(net, net.Conv(x, net.weight(8, 4, 1, 1)), 8)


def _second(net: Net, y: str, kernel: int = 3, **attrs: object) -> str:
    attrs = {"pads": [kernel // 2] * 4, "group": 8, **attrs}
    w = net.weight(8, 8 // attrs["group"], kernel, kernel)
    return _norm(net, net.Conv(y, w, **attrs), 8)


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (13, 11)], ids=str)
@pytest.mark.parametrize("act", ["relu", "clip", "silu", "hard_swish", "gelu"])
def test_fuses_the_six_operator_block(act, size, tmp_path):
    apply = list(FORMS[act].values())[-1]
    net = Net(opset=20, x=(2, 4, *size))
    y = apply(net, _second(net, apply(net, _first(net))))
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == CHAIN and outside_groups(work) == []
    spec = work.fusions.groups[0].spec
    assert spec.first.epilogue == spec.second.epilogue
    assert [step.name for step in spec.first.epilogue] == ["bias", act]
    assert spec.second.depthwise and spec.first.w == (8, 4, 1, 1)


@pytest.mark.parametrize(
    "attrs",
    [
        {"strides": [2, 2]},
        {"kernel": 5, "strides": [2, 1]},
        {"dilations": [2, 2]},
        {"pads": [0] * 4},
    ],
    ids=str,
)
def test_fuses_each_depthwise_convolution(attrs, tmp_path):
    net = Net(x=(1, 4, 9, 8))
    y = net.Relu(_second(net, net.Relu(_first(net)), **attrs))
    assert names(keeps_numbers(net.model(y), tmp_path)) == CHAIN


def test_fuses_without_activations_and_biases(tmp_path):
    net = Net(x=(1, 4, 9, 8))
    y = net.Conv("x", net.weight(8, 4, 1, 1))
    y = net.Conv(y, net.weight(8, 1, 3, 3), group=8)
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == CHAIN and work.fusions.groups[0].spec.first.epilogue == ()


def test_fuses_a_residual_behind_it(tmp_path):
    net = Net(x=(1, 4, 9, 8), r=(1, 8, 9, 8))
    y = net.Relu(net.Add(_second(net, net.Relu(_first(net))), "r"))
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == CHAIN
    epilogue = work.fusions.groups[0].spec.second.epilogue
    assert [step.name for step in epilogue] == ["bias", "residual", "relu"]


def test_fuses_an_open_batch(tmp_path):
    net = Net(x=("n", 4, 6, 6))
    work = keeps_numbers(net.model(net.Relu(_second(net, net.Relu(_first(net))))), tmp_path)
    assert names(work) == CHAIN and work.fusions.groups[0].spec.first.x == ("n", 4, 6, 6)


def test_a_residual_between_the_two_ends_it(tmp_path):
    net = Net(x=(1, 4, 6, 6), r=(1, 8, 6, 6))
    y = _second(net, net.Relu(net.Add(_first(net), "r")))
    assert names(keeps_numbers(net.model(y), tmp_path)) == ["conv_block"] * 2


def _declined(net: Net, y: str, tmp_path) -> set[str]:
    """Why there is no chain: looked at without conv_block, which takes the value instead."""
    work = keeps_numbers(net.model(net.Relu(y)), tmp_path)
    assert groups(work)[-1] == "conv_block bias relu"
    return declined(
        keeps_numbers(net.model(net.Relu(y)), tmp_path, disable=("conv_block",)), "conv_chain"
    )


def test_declines_a_first_convolution_that_is_not_pointwise(tmp_path):
    net = Net(x=(1, 4, 6, 6))
    reasons = _declined(net, _second(net, _second(net, _first(net))), tmp_path)
    assert "the first convolution is not pointwise" in reasons


def test_two_ordinary_convolutions_are_not_even_near(tmp_path):
    net = Net(x=(1, 4, 6, 6))
    assert _declined(net, _second(net, _first(net), group=2), tmp_path) == set()


def test_declines_weights_that_are_computed(tmp_path):
    net = Net(x=(1, 4, 6, 6), w=(8, 4, 1, 1))
    y = _second(net, net.Relu(net.Conv("x", "w")))
    assert names(keeps_numbers(net.model(y), tmp_path)) == ["conv_block"]


@pytest.mark.parametrize("shared", ["conv", "relu"])
def test_leaves_shared_value_alone(shared, tmp_path):
    net = Net(x=(1, 4, 6, 6))
    values = {"conv": net.Conv("x", net.weight(8, 4, 1, 1), net.weight(8))}
    values["relu"] = net.Relu(values["conv"])
    y = net.Relu(_second(net, values["relu"]))
    work = keeps_numbers(net.model(y, net.Neg(values[shared])), tmp_path)
    assert groups(work)[-1] == "conv_block bias relu" and "conv_chain" not in names(work)


def test_squeeze_and_excitation_takes_the_chain_before_it(tmp_path):
    net = Net(x=(1, 4, 6, 6))
    y = net.Relu(_second(net, net.Relu(_first(net))))
    s = net.Relu(net.Conv(net.GlobalAveragePool(y), net.weight(2, 8, 1, 1)))
    s = net.Sigmoid(net.Conv(s, net.weight(8, 2, 1, 1)))
    y = net.Conv(net.Mul(y, s), net.weight(4, 8, 1, 1))
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == ["squeeze_excitation"]
    spec = work.fusions.groups[0].spec
    assert len(spec.before) == 2 and spec.projection is not None
