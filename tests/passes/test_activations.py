from __future__ import annotations

import pytest

from tests.net import Net, fused
from tests.passes.forms import FORMS
from tilewright.passes.activations import ACTIVATIONS


def _net() -> Net:
    return Net(opset=20, x=(1, 3, 7, 7), a=(5, 8))


def test_every_activation_has_its_forms():
    assert set(FORMS) == {name for name, _ in ACTIVATIONS}


# Activations that differ in one number only, with their steps.
PAIRS = {
    "clip": [(lambda n, x, b=b: n.Clip(x, 0.0, b), f"clip(0, {b:g})") for b in (0.5, 6.0)],
    "leaky_relu": [
        (lambda n, x, a=a: n.LeakyRelu(x, alpha=a), f"leaky_relu({a})") for a in (0.1, 0.2)
    ],
    "swish": [
        (lambda n, x, a=a: n.Mul(x, n.Sigmoid(n.Mul(x, a))), f"swish({a})") for a in (1.5, 1.702)
    ],
    "selu": [
        (lambda n, x, g=g: n.Selu(x, alpha=1.5, gamma=g), f"selu(1.5, {g})") for g in (1.1, 1.2)
    ],
    "celu": [(lambda n, x, a=a: n.Celu(x, alpha=a), f"celu({a}, {a})") for a in (0.3, 0.7)],
    "thresholded_relu": [
        (lambda n, x, a=a: n.ThresholdedRelu(x, alpha=a), f"thresholded_relu({a})")
        for a in (0.3, 0.7)
    ],
    "elu": [(lambda n, x, a=a: n.Elu(x, alpha=a), f"elu({a})") for a in (0.3, 0.7)],
    "hard_sigmoid": [
        (lambda n, x, a=a: n.HardSigmoid(x, alpha=a), f"hard_sigmoid({a}, 0.5)") for a in (0.2, 0.4)
    ],
    "hard_swish": [
        (lambda n, x, b=b: n.Mul(x, n.HardSigmoid(x, beta=b)), f"hard_swish(0.2, {b})")
        for b in (0.4, 0.6)
    ],
}


def _squeezed(net: Net, act, gate) -> str:
    y = act(net, net.Conv(net.GlobalAveragePool("x"), net.weight(2, 3, 1, 1)))
    y = gate(net, net.Gemm(net.Flatten(y), net.weight(2, 3), net.weight(3)))
    return net.Mul("x", net.Reshape(y, net.ints(0, 3, 1, 1)))


def _layers(net: Net, form) -> str:
    return net.MatMul(form(net, net.MatMul("a", net.weight(8, 6))), net.weight(6, 8))


# Fusion -> a group with the activation in it, and where its spec has the step.
PLACES = {
    "conv_block": (
        lambda n, f: f(n, n.Conv("x", n.weight(4, 3, 3, 3), strides=[2, 2])),
        lambda spec: spec.epilogue[-1],
    ),
    "linear": (
        lambda n, f: f(n, n.MatMul("a", n.weight(8, 6))),
        lambda spec: spec.epilogue[-1],
    ),
    "mlp": (_layers, lambda spec: spec.activation),
    "squeeze_excitation": (
        lambda n, f: _squeezed(n, f, lambda n, y: n.Sigmoid(y)),
        lambda spec: spec.activation,
    ),
    "activation": (lambda n, f: f(n, n.Add(f(n, "x"), "x")), lambda spec: spec.function),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("fusion", PLACES)
def test_specs_differ_where_only_a_number_does(fusion, name, tmp_path):
    build, step = PLACES[fusion]
    found = []
    for form, _ in PAIRS[name]:
        net = _net()
        work = fused(net.model(build(net, form)), tmp_path)
        found += [g.spec for g in work.fusions.groups if g.fusion == fusion][:1]
    if fusion == "activation" and name in ("clip", "leaky_relu"):
        assert not found  # One operator alone.
        return
    if fusion in ("conv_block", "squeeze_excitation") and name == "hard_sigmoid":
        # The line is folded into the convolution: what is left is the same.
        assert [str(step(spec)) for spec in found] == ["clip(0, 1)"] * 2
        return
    assert [str(step(spec)) for spec in found] == [text for _, text in PAIRS[name]]
    assert found[0] != found[1] and found[0].key() != found[1].key()


def test_the_gate_has_parameters_of_its_own(tmp_path):
    net = _net()
    y = _squeezed(net, PAIRS["hard_swish"][0][0], PAIRS["hard_sigmoid"][1][0])
    (group,) = fused(net.model(y), tmp_path).fusions.groups
    assert str(group.spec.activation) == "hard_swish(0.2, 0.4)"
    assert str(group.spec.gate) == "hard_sigmoid(0.4, 0.5)"
