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
