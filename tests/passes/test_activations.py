from __future__ import annotations

import itertools

import pytest

from tests.net import Net, fused, groups, keeps_numbers
from tests.passes.forms import FORMS, every_form
from tilewright.passes.activations import ACTIVATIONS

SOURCES = {
    "conv": lambda n: n.Conv("x", n.weight(4, 3, 3, 3), n.weight(4)),
    "gemm": lambda n: n.Gemm("a", n.weight(6, 8), n.weight(6), transB=1),
    "matmul": lambda n: n.Add(n.weight(6), n.MatMul("a", n.weight(8, 6))),
}


def _net() -> Net:
    return Net(opset=20, x=(1, 3, 7, 7), a=(5, 8))


def _places_of_x(proto) -> list[tuple]:
    return [(node, i) for node in proto.graph.node for i, v in enumerate(node.input) if v == "x"]


def _reads_of_x(form) -> int:
    net = _net()
    return len(_places_of_x(net.model(form(net, "x"))))


def test_every_activation_has_its_forms():
    assert set(FORMS) == {name for name, _ in ACTIVATIONS}


@pytest.mark.parametrize("name", FORMS)
def test_fuses_every_form_into_what_it_follows_and_keeps_numbers(name, tmp_path):
    net = _net()
    outputs = [
        form(net, source(net))
        for form, source in itertools.product(FORMS[name].values(), SOURCES.values())
    ]
    work = keeps_numbers(net.model(*outputs), tmp_path)
    expected = [f"{source} bias {name}" for source in ("conv_block", "linear", "linear")]
    expected *= len(FORMS[name])
    if name == "hard_sigmoid":
        # The line before the clip is folded into a convolution that nothing else reads.
        expected[0] = expected[9] = "conv_block bias clip"
    assert groups(work) == expected


TWICE = [(f"{name}-{kind}", form) for name, kind, form in every_form() if _reads_of_x(form) > 1]


@pytest.mark.parametrize("form", [f for _, f in TWICE], ids=[name for name, _ in TWICE])
def test_stops_where_the_argument_is_another_value(form, tmp_path):
    """The same operators over two values: what needs one value twice must not match."""
    net = _net()
    y = form(net, "x")
    proto = net.model(y)
    largest = _largest(fused(proto, tmp_path))
    node, place = _places_of_x(proto)[0]
    node.input[place] = "z"
    proto.graph.input.append(proto.graph.input[0])
    proto.graph.input[-1].name = "z"
    assert _largest(keeps_numbers(proto, tmp_path)) < largest


def _largest(work) -> int:
    return max((len(group.members) for group in work.fusions.groups), default=0)


# Activations that differ in one number only, with their steps.
PAIRS = {
    "clip": [(lambda n, x, b=b: n.Clip(x, 0.0, b), f"clip(0, {b:g})") for b in (0.5, 6.0)],
    "leaky_relu": [
        (lambda n, x, a=a: n.LeakyRelu(x, alpha=a), f"leaky_relu({a})") for a in (0.1, 0.2)
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


@pytest.mark.parametrize(
    "form",
    [
        lambda n, x: n.Mul(x, n.Div(n.Clip(n.Add(x, 3.0), 0.0, 5.0), 6.0)),
        lambda n, x: n.Mul(x, n.Div(n.Clip(n.Add(x, 2.0), 0.0, 6.0), 6.0)),
        lambda n, x: n.Mul(x, n.Div(n.Clip(n.Add(x, 3.0), 0.0, 6.0), 5.0)),
        lambda n, x: n.Mul(n.Mul(x, 0.5), n.Add(n.Erf(n.Div(x, 1.5)), 1.0)),
        lambda n, x: n.Mul(n.Mul(x, 0.6), n.Add(n.Erf(n.Div(x, 2**0.5)), 1.0)),
        lambda n, x: n.Mul(x, n.Tanh(n.Log(n.Add(n.Exp(x), 2.0)))),
        lambda n, x: n.Max(x, 0.1),
        lambda n, x: n.Min(n.Max(x, n.weight(7)), 0.5),
        lambda n, x: n.Mul(x, n.Clip(n.Add(n.Mul(x, n.weight(7)), 0.5), 0.0, 1.0)),
    ],
    ids=["top", "shift", "divisor", "root", "half", "softplus", "zero", "bound", "slope"],
)
def test_stops_where_a_constant_is_another(form, tmp_path):
    net = _net()
    work = keeps_numbers(net.model(form(net, "x")), tmp_path)
    assert not {"gelu", "hard_swish", "mish", "clip", "relu"} & set(" ".join(groups(work)).split())
