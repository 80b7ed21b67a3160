from __future__ import annotations

import pytest

from tests.net import Net, declined, groups, keeps_numbers, outside_groups
from tests.passes.forms import FORMS


def _gate(net: Net, x: str, form: str = "conv", act: str = "relu", gate: str = "sigmoid") -> str:
    """The factor that the mean of 8 channels opens, one per channel."""
    squeeze, opened = (list(FORMS[name].values())[-1] for name in (act, gate))
    if form == "conv":
        y = net.GlobalAveragePool(x)
        y = squeeze(net, net.Conv(y, net.weight(2, 8, 1, 1), net.weight(2)))
        return opened(net, net.Conv(y, net.weight(8, 2, 1, 1), net.weight(8)))
    y = net.ReduceMean(x, axes=[2, 3], keepdims=0)
    if form == "flatten":
        y = net.Flatten(net.GlobalAveragePool(x))
    y = squeeze(net, net.Gemm(y, net.weight(2, 8), net.weight(2), transB=1))
    y = opened(net, net.Add(net.MatMul(y, net.weight(2, 8)), net.weight(8)))
    return net.Reshape(y, net.ints(-1, 8, 1, 1))


@pytest.mark.parametrize("order", ["x_first", "gate_first"])
@pytest.mark.parametrize("form", ["conv", "linear", "flatten"])
@pytest.mark.parametrize(
    "functions",
    [
        ("relu", "sigmoid"),
        ("silu", "sigmoid"),
        ("relu", "hard_sigmoid"),
        ("hard_swish", "hard_sigmoid"),
    ],
)
def test_fuses_each_form(functions, form, order, tmp_path):
    net = Net(opset=14, x=(2, 8, 5, 5))
    gate = _gate(net, "x", form, *functions)
    y = net.Mul("x", gate) if order == "x_first" else net.Mul(gate, "x")
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["squeeze_excitation"]
    spec = work.fusions.groups[0].spec
    assert (spec.x, spec.squeezed, spec.activation.name) == ((2, 8, 5, 5), 2, functions[0])
    # Before a clip, the line of a hard sigmoid is folded into the convolution.
    assert spec.gate.name in (functions[1], "clip") and spec.projection is None


@pytest.mark.parametrize("residual", [False, True])
def test_fuses_the_projection(residual, tmp_path):
    net = Net(x=(2, 8, 5, 5), r=(2, 4, 5, 5))
    y = net.Conv(net.Mul("x", _gate(net, "x")), net.weight(4, 8, 1, 1))
    y = net.BatchNormalization(y, *[net.weight(4, near=2) for _ in range(4)])
    y = net.Add(y, "r") if residual else y
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["squeeze_excitation"]
    projection = work.fusions.groups[0].spec.projection
    assert [step.name for step in projection.epilogue] == ["bias", "residual"][: 1 + residual]


def _made(net: Net, x: str, into: int, kernel: int = 3, group: int = 8) -> str:
    weights = net.weight(8, into // group, kernel, kernel), net.weight(8)
    return net.Relu(net.Conv(x, *weights, pads=[kernel // 2] * 4, group=group))


def test_fuses_what_makes_the_scaled_value(tmp_path):
    net = Net(x=(2, 4, 5, 5))
    y = _made(net, _made(net, "x", 4, kernel=1, group=1), 8)
    y = net.Conv(net.Mul(y, _gate(net, y)), net.weight(4, 8, 1, 1))
    work = keeps_numbers(net.model(net.Add(y, "x")), tmp_path)
    assert groups(work) == ["squeeze_excitation"] and outside_groups(work) == []
    before = work.fusions.groups[0].spec.before
    assert [conv.w for conv in before] == [(8, 4, 1, 1), (8, 1, 3, 3)]
    assert all(len(conv.epilogue) == 2 for conv in before)


def test_a_depthwise_convolution_alone_is_inside_too(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = _made(net, "x", 8)
    work = keeps_numbers(net.model(net.Mul(y, _gate(net, y))), tmp_path)
    assert groups(work) == ["squeeze_excitation"]


@pytest.mark.parametrize(("kernel", "group"), [(3, 1), (1, 1), (3, 2)])
def test_another_convolution_before_it_stays_outside(kernel, group, tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = _made(net, "x", 8, kernel, group)
    work = keeps_numbers(net.model(net.Mul(y, _gate(net, y))), tmp_path)
    assert groups(work) == ["conv_block bias relu", "squeeze_excitation"]
    assert declined(work, "squeeze_excitation") == set()


def test_a_value_that_others_read_is_made_outside(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = _made(net, "x", 8)
    model = net.model(net.Mul(y, _gate(net, y)), net.Neg(y))
    assert groups(keeps_numbers(model, tmp_path)) == ["conv_block bias relu", "squeeze_excitation"]


def test_fuses_an_open_batch(tmp_path):
    net = Net(x=("n", 8, 5, 5))
    work = keeps_numbers(net.model(net.Mul("x", _gate(net, "x"))), tmp_path)
    assert groups(work) == ["squeeze_excitation"]


def test_a_scaled_value_with_two_readers_keeps_the_projection_outside(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    scaled = net.Mul("x", _gate(net, "x"))
    y = net.Conv(scaled, net.weight(8, 8, 1, 1))
    work = keeps_numbers(net.model(net.Relu(y), net.Neg(scaled)), tmp_path)
    assert groups(work) == ["squeeze_excitation", "conv_block relu"]


def test_a_scaled_value_that_is_the_projections_residual_keeps_it_outside(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    scaled = net.Mul("x", _gate(net, "x"))
    y = net.Add(net.Conv(scaled, net.weight(8, 8, 1, 1)), scaled)
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["squeeze_excitation", "conv_block residual"]


def test_declines_a_mean_over_some_positions(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = net.ReduceMean("x", axes=[2])
    y = net.Relu(net.Conv(y, net.weight(2, 8, 1, 1), net.weight(2)))
    y = net.Sigmoid(net.Conv(y, net.weight(8, 2, 1, 1), net.weight(8)))
    work = keeps_numbers(net.model(net.Mul("x", y)), tmp_path)
    assert groups(work) == ["conv_block bias relu", "conv_block bias sigmoid"]
    reason = "the mean is over axes [2], want all positions"
    assert declined(work, "squeeze_excitation") == {reason}


def test_declines_another_gate(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    work = keeps_numbers(net.model(net.Mul("x", _gate(net, "x", gate="tanh"))), tmp_path)
    assert "squeeze_excitation" not in " ".join(groups(work))
    (reason,) = declined(work, "squeeze_excitation")
    assert reason.startswith("the gate is tanh, want one of")


def test_declines_layers_that_are_not_1x1(tmp_path):
    net = Net(x=(2, 8, 5, 5))
    y = net.GlobalAveragePool("x")
    y = net.Relu(net.Conv(y, net.weight(2, 8, 3, 3), net.weight(2), pads=[1, 1, 1, 1]))
    y = net.Sigmoid(net.Conv(y, net.weight(8, 2, 1, 1), net.weight(8)))
    work = keeps_numbers(net.model(net.Mul("x", y)), tmp_path)
    assert "squeeze_excitation" not in " ".join(groups(work))
    reason = "the layers have kernels (3, 3) and (1, 1), want 1x1"
    assert declined(work, "squeeze_excitation") == {reason}


def test_declines_a_projection_that_conv_block_declines(tmp_path):
    net = Net(x=(2, 8, 5, 5), w=(4, 8, 1, 1))
    y = net.Conv(net.Mul("x", _gate(net, "x")), "w")
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["squeeze_excitation"]
    assert work.fusions.groups[0].spec.projection is None


def test_a_hard_gate_without_bias(tmp_path):
    """Folding leaves its 0.5 as the bias of the second layer: one number for all channels."""
    net = Net(opset=20, x=(2, 8, 5, 5))
    y = net.Relu(net.Conv(net.GlobalAveragePool("x"), net.weight(2, 8, 1, 1)))
    y = net.HardSigmoid(net.Conv(y, net.weight(8, 2, 1, 1)))
    work = keeps_numbers(net.model(net.Mul("x", y)), tmp_path)
    assert groups(work) == ["squeeze_excitation"]


def test_scaling_another_tensor_is_no_squeeze_excitation(tmp_path):
    net = Net(x=(2, 8, 5, 5), z=(2, 8, 5, 5))
    work = keeps_numbers(net.model(net.Mul("z", _gate(net, "x"))), tmp_path)
    assert "squeeze_excitation" not in " ".join(groups(work))


@pytest.mark.parametrize("shared", ["globalaveragepool0", "relu2", "sigmoid4"])
def test_leaves_shared_value_alone(shared, tmp_path):
    net = Net(x=(2, 8, 5, 5))
    gate = net.Sigmoid(
        net.Conv(
            net.Relu(net.Conv(net.GlobalAveragePool("x"), net.weight(2, 8, 1, 1))),
            net.weight(8, 2, 1, 1),
        )
    )
    work = keeps_numbers(net.model(net.Mul("x", gate), net.Neg(shared)), tmp_path)
    assert "squeeze_excitation" not in " ".join(groups(work))
    (reason,) = declined(work, "squeeze_excitation")
    assert reason.startswith(f"n_{shared} (") and "has a second reader" in reason
