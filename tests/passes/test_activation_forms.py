from __future__ import annotations

import itertools

import pytest

from tests.net import Net, fused, groups, keeps_numbers
from tests.passes.forms import FORMS, every_form

SOURCES = {
    "conv": lambda n: n.Conv("x", n.weight(4, 3, 3, 3), n.weight(4)),
    "gemm": lambda n: n.Gemm("a", n.weight(6, 8), n.weight(6), transB=1),
    "matmul": lambda n: n.Add(n.weight(6), n.MatMul("a", n.weight(8, 6))),
}

# Activations whose forms all have the same parameters, so that their steps are one.
ONE_SET_OF_NUMBERS = ("leaky_relu", "celu", "selu", "thresholded_relu", "hard_swish")


def _net() -> Net:
    return Net(opset=20, x=(1, 3, 7, 7), a=(5, 8))


def _places_of_x(proto) -> list[tuple]:
    return [(node, i) for node in proto.graph.node for i, v in enumerate(node.input) if v == "x"]


def _reads_of_x(form) -> int:
    net = _net()
    return len(_places_of_x(net.model(form(net, "x"))))


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
        # A product and a sum before the clip are folded into a convolution.
        for kind in ("native", "line", "line_max_min"):
            expected[3 * list(FORMS[name]).index(kind)] = "conv_block bias clip"
    assert groups(work) == expected
    if name in ONE_SET_OF_NUMBERS:
        assert len({str(group.spec.epilogue[-1]) for group in work.fusions.groups}) == 1


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


@pytest.mark.parametrize("form", ["native", "minus", "minus_folded", "minus_inside"])
def test_fuses_slopes_per_channel(form, tmp_path):
    net = _net()
    x = SOURCES["conv"](net)
    slopes = net.weight(4, 1, 1, near=0.3)
    down = net.Relu(net.Neg(x))
    y = {
        "native": lambda: net.PRelu(x, slopes),
        "minus": lambda: net.Sub(net.Relu(x), net.Mul(slopes, down)),
        "minus_folded": lambda: net.Add(net.Relu(x), net.Mul(down, net.Neg(slopes))),
        "minus_inside": lambda: net.Add(net.Relu(x), net.Mul(net.Neg(down), slopes)),
    }[form]()
    (group,) = keeps_numbers(net.model(y), tmp_path).fusions.groups
    sign = -1 if form == "minus_folded" else 1
    assert str(group.spec.epilogue[-1]) == f"prelu(-3, {sign})"


def test_slopes_along_two_axes_are_no_prelu(tmp_path):
    net = _net()
    x = SOURCES["conv"](net)
    y = net.Sub(net.Relu(x), net.Mul(net.weight(4, 5, 1), net.Relu(net.Neg(x))))
    assert "prelu" not in " ".join(groups(keeps_numbers(net.model(y), tmp_path)))


def test_a_slope_above_one_is_no_maximum_of_both(tmp_path):
    """max(x, 2 x) is x below 0: no leaky ReLU."""
    net = _net()
    y = net.Max("x", net.Mul("x", 2.0))
    assert groups(keeps_numbers(net.model(y), tmp_path)) == []


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
        lambda n, x: n.Where(n.Greater(x, 0.1), x, n.Sub(n.Exp(x), 1.0)),
        lambda n, x: n.Add(n.Relu(x), n.Min(n.Mul(n.Sub(n.Exp(x), 1.0), -0.5), 0.0)),
        lambda n, x: n.Div(x, n.Add(n.Abs(x), 2.0)),
        lambda n, x: n.Div(2.0, n.Add(n.Exp(n.Neg(x)), 1.0)),
        lambda n, x: n.Min(n.Max(x, n.weight(7)), 0.5),
        lambda n, x: n.Mul(x, n.Clip(n.Add(n.Mul(x, n.weight(7)), 0.5), 0.0, 1.0)),
    ],
    ids=[
        *("top", "shift", "divisor", "root", "half", "softplus", "zero", "threshold", "negative"),
        *("softsign", "sigmoid", "bound", "slope"),
    ],
)
def test_stops_where_a_constant_is_another(form, tmp_path):
    net = _net()
    work = keeps_numbers(net.model(form(net, "x")), tmp_path)
    stopped = {"gelu", "hard_swish", "mish", "clip", "relu", "elu", "softsign", "sigmoid"}
    assert not stopped & set(" ".join(groups(work)).split())
