from __future__ import annotations

import pytest

from tests.net import Net, declined, groups, keeps_numbers
from tests.passes.forms import FORMS


@pytest.mark.parametrize("name", FORMS)
def test_fuses_what_takes_several_operators(name, tmp_path):
    net = Net(opset=20, x=(2, 5, 7))
    form = list(FORMS[name].values())[-1]
    work = keeps_numbers(net.model(form(net, "x")), tmp_path)
    alone = name in ("relu", "prelu", "tanh")
    assert groups(work) == ([] if alone else [f"activation {name}"])
    assert not declined(work, "activation")


def test_an_operator_alone_is_left_for_tvm_to_fuse(tmp_path):
    net = Net(a=(2, 5), b=(2, 5))
    work = keeps_numbers(net.model(net.Relu(net.Add("a", "b"))), tmp_path)
    assert groups(work) == [] and len(work.kernels) == 1


def test_leaves_shared_value_alone(tmp_path):
    net = Net(x=(2, 5))
    half = net.Sigmoid("x")
    work = keeps_numbers(net.model(net.Mul("x", half), half), tmp_path)
    assert groups(work) == []
    assert any("has a second reader" in why for why in declined(work, "activation"))


def test_of_a_constant_is_none(tmp_path):
    net = Net(opset=20)
    work = keeps_numbers(net.model(net.Celu(net.Abs(net.const(0.5)))), tmp_path)
    assert groups(work) == []
