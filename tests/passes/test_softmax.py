from __future__ import annotations

import pytest

from tests.net import Net, declined, keeps_numbers, names, outside_groups


def _power(net: Net, axis: int, safe: bool = True, of: str = "x") -> str:
    return net.Exp(net.Sub(of, net.ReduceMax("x", axes=[axis])) if safe else of)


def _sum(net: Net, y: str, axis: int) -> str:
    return net.ReduceSum(y, net.ints(axis))


def _written(net: Net, axis: int, safe: bool = True) -> str:
    power = _power(net, axis, safe)
    return net.Div(power, _sum(net, power, axis))


def _log_written(net: Net, axis: int) -> str:
    shifted = net.Sub("x", net.ReduceMax("x", axes=[axis]))
    return net.Sub(shifted, net.Log(_sum(net, net.Exp(shifted), axis)))


FORMS = {
    "native": (False, lambda n, a: n.Softmax("x", axis=a)),
    "written": (False, _written),
    "without_max": (False, lambda n, a: _written(n, a, safe=False)),
    "log_native": (True, lambda n, a: n.LogSoftmax("x", axis=a)),
    "log_of_native": (True, lambda n, a: n.Log(n.Softmax("x", axis=a))),
    "log_of_written": (True, lambda n, a: n.Log(_written(n, a))),
    "log_written": (True, _log_written),
    "log_without_max": (True, lambda n, a: n.Sub("x", n.Log(_sum(n, n.Exp("x"), a)))),
}


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("form", FORMS)
def test_fuses_each_form(form, axis, tmp_path):
    log, build = FORMS[form]
    net = Net(x=(2, 5, 7))
    work = keeps_numbers(net.model(build(net, axis)), tmp_path)
    (group,) = work.fusions.groups
    assert group.fusion == "softmax" and outside_groups(work) == []
    assert (group.spec.x, group.spec.axis, group.spec.log) == ((2, 5, 7), axis % 3, log)


def test_fuses_an_open_batch(tmp_path):
    net = Net(x=("n", 5))
    work = keeps_numbers(net.model(_written(net, -1)), tmp_path)
    assert [g.spec.x for g in work.fusions.groups] == [("n", 5)]


def test_a_maximum_over_another_axis_stays_outside(tmp_path):
    net = Net(x=(2, 5, 5))
    power = _power(net, 1)
    work = keeps_numbers(net.model(net.Div(power, _sum(net, power, 2))), tmp_path)
    (group,) = work.fusions.groups
    assert len(group.members) == 3 and group.spec.axis == 2


def test_declines_a_sum_of_everything(tmp_path):
    net = Net(x=(5, 5))
    power = net.Exp("x")
    work = keeps_numbers(net.model(net.Div(power, net.ReduceSum(power))), tmp_path)
    assert names(work) == []
    assert declined(work, "softmax") == {"sum over (0, 1): want the same, single axis"}


def test_declines_a_sum_without_its_axis(tmp_path):
    net = Net(x=(5, 5))
    power = net.Exp("x")
    y = net.Div(power, net.ReduceSum(power, net.ints(1), keepdims=0))
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == []
    assert declined(work, "softmax") == {"a reduction drops its axis"}


def test_the_maximum_of_another_value_is_no_softmax(tmp_path):
    net = Net(x=(2, 5), z=(2, 5))
    power = _power(net, -1, of="z")
    work = keeps_numbers(net.model(net.Div(power, _sum(net, power, -1))), tmp_path)
    # Of the shifted value it is one: a softmax without a maximum.
    assert [len(group.members) for group in work.fusions.groups] == [3]


@pytest.mark.parametrize("shared", ["reducemax0", "sub1", "exp2", "reducesum3"])
def test_leaves_shared_value_alone(shared, tmp_path):
    net = Net(x=(2, 5))
    work = keeps_numbers(net.model(_written(net, -1), net.Neg(shared)), tmp_path)
    # What a maximum or a difference is subtracted from may be read: the rest is a softmax of it.
    assert max((len(group.members) for group in work.fusions.groups), default=0) < 5
    assert names(work) == ["softmax"] or any(
        why.startswith(f"n_{shared} (") and "has a second reader" in why
        for why in declined(work, "softmax")
    )


def test_an_attention_keeps_its_softmax(tmp_path):
    net = Net(q=(2, 3, 5, 4), k=(2, 3, 4, 7), v=(2, 3, 7, 4))
    y = net.MatMul(net.Softmax(net.MatMul("q", "k"), axis=-1), "v")
    assert names(keeps_numbers(net.model(y), tmp_path)) == ["attention"]
