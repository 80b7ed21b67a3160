from __future__ import annotations

import itertools

import pytest

from tests.net import CONTRIB, Net, groups, keeps_numbers, outside_groups
from tilewright.passes.epilogue import TAIL

STEPS = ("bias", "residual", "relu", "late")


@pytest.mark.parametrize("anchor", ["conv_block", "linear"])
def test_fuses_every_choice_of_steps(anchor, tmp_path):
    shape = (2, 4, 5, 5) if anchor == "conv_block" else (2, 5, 4)
    net = Net(x=shape, r=shape, s=shape)
    outputs, expected = [], []
    for there in itertools.product([False, True], repeat=4):
        bias, residual, relu, late = there
        if late and not relu:
            continue  # Two residuals in a row: the second is an addition of its own.
        if anchor == "conv_block":
            inputs = [net.weight(4, 4, 1, 1), *([net.weight(4)] if bias else [])]
            y = net.Conv("x", *inputs)
        else:
            y = net.MatMul("x", net.weight(4, 4))
            y = net.Add(y, net.weight(4)) if bias else y
        y = net.Add("r", y) if residual else y
        y = net.Relu(y) if relu else y
        outputs.append(net.Add(y, "s") if late else y)
        words = [name for name, on in zip(STEPS, there, strict=True) if on]
        expected.append(" ".join([anchor, *words]).replace("late", "residual"))
    assert groups(keeps_numbers(net.model(*outputs), tmp_path)) == expected


ANCHORS = {
    "conv_block": lambda n: n.Sigmoid(n.Conv("x", n.weight(4, 3, 1, 1), n.weight(4))),
    "linear": lambda n: n.MatMul("x", n.weight(5, 6)),
}
# Operators that no activation holds: an operator on a value, and the step it is.
ENDS = {
    "abs": lambda n, y: n.Abs(y),
    "negative": lambda n, y: n.Neg(y),
    "sin": lambda n, y: n.Sin(y),
    "add(1.5)": lambda n, y: n.Add(1.5, n.Abs(y)),
    "subtract(1.5)": lambda n, y: n.Sub(y, 1.5),
    "subtract_from(1.5)": lambda n, y: n.Sub(1.5, y),
    "multiply(1.5)": lambda n, y: n.Mul(n.Abs(y), 1.5),
    "divide(1.5)": lambda n, y: n.Div(y, 1.5),
    "divide_into(1.5)": lambda n, y: n.Div(1.5, n.Add(n.Abs(y), 1.0)),
    "power(3)": lambda n, y: n.Pow(y, 3.0),
    "maximum(0.25)": lambda n, y: n.Max(y, 0.25),
    "minimum(0.25)": lambda n, y: n.Min(0.25, y),
    "tanh": lambda n, y: n.Tanh(n.Div(y, 3.0)),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("anchor", ANCHORS)
def test_fuses_the_elementwise_operators_after_it(anchor, end, tmp_path):
    net = Net(x=(2, 3, 5, 5))
    work = keeps_numbers(net.model(ENDS[end](net, ANCHORS[anchor](net))), tmp_path)
    (group,) = work.fusions.groups
    assert group.fusion == anchor and str(group.spec.epilogue[-1]) == end
    assert outside_groups(work) == []


def test_a_tail_has_an_end(tmp_path):
    net = Net(x=(5, 8))
    y = net.MatMul("x", net.weight(8, 8))
    for _ in range(TAIL + 2):
        y = net.Sin(y)
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["linear" + TAIL * " sin"] and len(work.kernels) == 2


def test_a_tail_starts_after_the_residual(tmp_path):
    net = Net(x=(5, 8), r=(5, 8))
    y = net.Div(net.Add("r", net.Gelu(net.MatMul("x", net.weight(8, 8)), domain=CONTRIB)), 2.0)
    assert groups(keeps_numbers(net.model(y), tmp_path)) == ["linear gelu residual divide"]


def test_an_operand_per_column_ends_the_group(tmp_path):
    net = Net(x=(5, 8))
    y = net.Mul(net.Abs(net.MatMul("x", net.weight(8, 8))), net.weight(8))
    assert groups(keeps_numbers(net.model(y), tmp_path)) == ["linear abs"]


def test_leaves_a_shared_value_of_the_tail_alone(tmp_path):
    net = Net(x=(5, 8))
    y = net.Abs(net.MatMul("x", net.weight(8, 8)))
    work = keeps_numbers(net.model(net.Sin(y), net.Cos(y)), tmp_path)
    assert groups(work) == ["linear abs"]
