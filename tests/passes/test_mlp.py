from __future__ import annotations

import pytest

from tests.net import Net, declined, groups, keeps_numbers
from tests.passes.forms import FORMS

# Without the fusion that takes what this one declines: its near misses would be none.
ALONE = ("fold_constants", "clean_up", "mlp")


def _linear(net: Net, x: str, inner: int, columns: int, bias: bool = True, last: bool = False):
    y = net.MatMul(x, net.weight(inner, columns))
    if not bias:
        return y
    return net.Add(y, net.weight(columns)) if last else net.Add(net.weight(columns), y)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("biases", [(True, True), (False, False), (True, False), (False, True)])
def test_fuses_two_layers(biases, residual, tmp_path):
    net = Net(x=(2, 5, 8))
    y = _linear(net, "x", 8, 12, biases[0])
    y = _linear(net, net.Mul(y, net.Sigmoid(y)), 12, 8, biases[1], last=True)
    y = net.Add("x", y) if residual else y
    work = keeps_numbers(net.model(y), tmp_path)
    words = [w for w, on in (("bias", biases[1]), ("residual", residual)) if on]
    assert groups(work) == [" ".join(["mlp", *words])]
    spec = work.fusions.groups[0].spec
    assert (spec.hidden, spec.out, str(spec.activation), spec.gated) == (12, 8, "silu", False)
    assert spec.hidden_bias == biases[0]


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "relu", "hard_swish"])
def test_fuses_each_form_of_an_activation(name, tmp_path):
    net = Net(opset=20, x=(5, 8))
    outputs = [
        _linear(net, form(net, _linear(net, "x", 8, 6)), 6, 8) for form in FORMS[name].values()
    ]
    work = keeps_numbers(net.model(*outputs), tmp_path)
    assert groups(work) == ["mlp bias"] * len(outputs)


@pytest.mark.parametrize("order", ["gate_first", "gate_last"])
@pytest.mark.parametrize("bias", [True, False])
def test_fuses_a_gated_layer(order, bias, tmp_path):
    net = Net(x=(2, 5, 8))
    y = _linear(net, "x", 8, 12, bias)
    active, other = net.Mul(net.Sigmoid(y), y), _linear(net, "x", 8, 12, bias)
    hidden = net.Mul(other, active) if order == "gate_first" else net.Mul(active, other)
    y = net.Add(_linear(net, hidden, 12, 8, bias), "x")
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["mlp bias residual" if bias else "mlp residual"]
    assert work.fusions.groups[0].spec.gated


def test_fuses_gemms(tmp_path):
    net = Net(x=("n", 8))
    y = net.Relu(net.Gemm("x", net.weight(6, 8), net.weight(6), transB=1))
    y = net.Gemm(y, net.weight(6, 3), net.weight(3))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["mlp bias"] and work.fusions.groups[0].spec.x == ("n", 8)


def test_fuses_a_transpose_and_a_learnt_scale(tmp_path):
    """The second half of a ConvNeXt block."""
    net = Net(x=(1, 4, 4, 8), r=(1, 8, 4, 4))
    y = _linear(net, net.Relu(_linear(net, "x", 8, 12)), 12, 8)
    y = net.Mul(net.Transpose(y, perm=[0, 3, 1, 2]), net.weight(8, 1, 1, near=1))
    work = keeps_numbers(net.model(net.Add("r", y)), tmp_path)
    assert groups(work) == ["mlp bias transpose layer_scale residual"]


def test_declines_a_bias_per_row(tmp_path):
    net = Net(x=(5, 8))
    y = net.Relu(net.Add(net.MatMul("x", net.weight(8, 6)), net.weight(5, 1)))
    work = keeps_numbers(net.model(_linear(net, y, 6, 8)), tmp_path, only=ALONE)
    assert "mlp" not in " ".join(groups(work))
    assert declined(work, "mlp") == {"bias has shape (5, 1), want one value per column"}


def test_declines_a_residual_that_broadcasts(tmp_path):
    net = Net(x=(2, 5, 8), r=(5, 8))
    y = _linear(net, net.Relu(_linear(net, "x", 8, 6)), 6, 8)
    work = keeps_numbers(net.model(net.Add(y, "r")), tmp_path)
    assert groups(work) == ["mlp bias"]
    assert declined(work, "mlp") == {"what is added has shape (5, 8), want (2, 5, 8)"}


def test_declines_a_scale_per_row(tmp_path):
    net = Net(x=(2, 5, 8))
    y = _linear(net, net.Relu(_linear(net, "x", 8, 6)), 6, 8)
    work = keeps_numbers(net.model(net.Mul(y, net.weight(5, 1))), tmp_path)
    assert groups(work) == ["mlp bias"]
    assert declined(work, "mlp") == {"the scale has shape (5, 1), want one value per column"}


def test_declines_weights_with_a_batch(tmp_path):
    net = Net(x=(2, 5, 8))
    y = net.MatMul(net.Relu(net.MatMul("x", net.weight(2, 8, 6))), net.weight(2, 6, 8))
    work = keeps_numbers(net.model(y), tmp_path, only=ALONE)
    assert groups(work) == []
    assert declined(work, "mlp") == {"a shape is not known, or the weights have a batch"}


@pytest.mark.parametrize("shared", ["matmul0", "relu1", "mul3"])
def test_leaves_shared_value_alone(shared, tmp_path):
    net = Net(x=(2, 5, 8))
    active = net.Relu(net.MatMul("x", net.weight(8, 6)))
    hidden = net.Mul(active, net.MatMul("x", net.weight(8, 6)))
    y = net.MatMul(hidden, net.weight(6, 8))
    work = keeps_numbers(net.model(y, net.Neg(shared)), tmp_path, only=ALONE)
    assert "mlp" not in " ".join(groups(work))
    assert any(
        f"n_{shared} (" in why and "has a second reader" in why for why in declined(work, "mlp")
    )


def test_a_gate_of_another_input_is_no_gate(tmp_path):
    net = Net(x=(5, 8), z=(5, 8))
    hidden = net.Mul(net.Relu(net.MatMul("x", net.weight(8, 6))), net.MatMul("z", net.weight(8, 6)))
    work = keeps_numbers(net.model(net.MatMul(hidden, net.weight(6, 8))), tmp_path)
    assert "mlp" not in " ".join(groups(work))


def test_computed_weights_keep_the_layers_apart(tmp_path):
    net = Net(x=(5, 8), w=(8, 6))
    work = keeps_numbers(net.model(_linear(net, net.Relu(net.MatMul("x", "w")), 6, 8)), tmp_path)
    assert groups(work) == ["linear relu", "linear bias"]


def _halves(net: Net, how: str, bias: bool, first: str = "x") -> tuple[str, str]:
    """One product of twice the hidden width, cut in two."""
    joint = _linear(net, first, 8, 24, bias)
    if how == "split":
        return tuple(net.add("Split", joint, outputs=2, axis=-1, num_outputs=2))
    ends = ((0, 12), (12, 2**63 - 1))
    return tuple(net.Slice(joint, net.ints(a), net.ints(b), net.ints(2)) for a, b in ends)


@pytest.mark.parametrize("activated", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("how", ["split", "slice"])
@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_fuses_the_halves_of_one_product(name, how, bias, activated, tmp_path):
    net = Net(opset=20, x=(2, 5, 8))
    halves = _halves(net, how, bias)
    active = list(FORMS[name].values())[-1](net, halves[activated])
    y = _linear(net, net.Mul(halves[1 - activated], active), 12, 8)
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["mlp bias"]
    spec = work.fusions.groups[0].spec
    assert (spec.hidden, spec.gated, spec.activated_half) == (12, True, activated)
    assert (spec.hidden_bias, spec.gate_bias) == (bias, bias) and str(spec.activation) == name


@pytest.mark.parametrize(
    ("cuts", "axis"),
    [(((0, 12), (0, 12)), 2), (((0, 12), (6, 18)), 2), (((1, 13), (12, 24)), 2)],
    ids=str,
)
def test_declines_what_are_no_halves(cuts, axis, tmp_path):
    net = Net(x=(2, 5, 8))
    joint = _linear(net, "x", 8, 24)
    one, two = (net.Slice(joint, net.ints(a), net.ints(b), net.ints(axis)) for a, b in cuts)
    y = net.MatMul(net.Mul(net.Relu(one), two), net.weight(12, 8))
    work = keeps_numbers(net.model(y), tmp_path, only=ALONE)
    assert groups(work) == []
    assert declined(work, "mlp") == {"the factors are not the two halves of one product"}


def test_declines_halves_of_another_axis(tmp_path):
    net = Net(opset=20, x=(4, 8))
    one, two = net.add("Split", net.MatMul("x", net.weight(8, 6)), outputs=2, axis=0, num_outputs=2)
    y = net.MatMul(net.Mul(net.Relu(one), two), net.weight(6, 8))
    work = keeps_numbers(net.model(y), tmp_path, only=ALONE)
    assert groups(work) == []
    assert declined(work, "mlp") == {"the factors are not the two halves of one product"}


def test_declines_a_gate_that_broadcasts(tmp_path):
    net = Net(x=(5, 8))
    hidden = net.Mul(net.Relu(net.MatMul("x", net.weight(8, 6))), net.MatMul("x", net.weight(8, 1)))
    work = keeps_numbers(net.model(net.MatMul(hidden, net.weight(6, 8))), tmp_path, only=ALONE)
    assert groups(work) == []
    assert declined(work, "mlp") == {"the gate's weights are (8, 1), want (8, 6)"}


def test_the_spec_says_where_a_transpose_puts_the_scale(tmp_path):
    net = Net(x=(1, 8, 8, 8), r=(1, 8, 8, 8))
    y = _linear(net, net.Relu(_linear(net, "x", 8, 6)), 6, 8)
    y = net.Mul(net.Transpose(y, perm=[0, 3, 1, 2]), net.weight(8, 1, 1, near=1))
    work = keeps_numbers(net.model(net.Add("r", y)), tmp_path)
    (spec,) = (group.spec for group in work.fusions.groups)
    shown = ["bias", "transpose(0, 3, 1, 2)", "layer_scale(1)", "residual"]
    assert [str(step) for step in spec.epilogue] == shown
