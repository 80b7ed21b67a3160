from __future__ import annotations

import pytest

from tests.net import Net, declined, fused, groups, keeps_numbers

FAR = 2**63 - 1


def _rotary(net: Net, cuts: tuple = ((0, 4), (4, FAR)), order: str = "plain") -> str:
    first, second = (
        net.Slice("x", net.ints(a), net.ints(b), net.ints(-1), *[net.ints(s) for s in step])
        for a, b, *step in cuts
    )
    turned = net.Concat(net.Neg(second), first, axis=-1)
    if order == "plain":
        return net.Add(net.Mul("x", "cos"), net.Mul(turned, "sin"))
    return net.Add(net.Mul("sin", turned), net.Mul("cos", "x"))


def _net(batch: int | str = 2) -> Net:
    return Net(x=(batch, 3, 5, 8), cos=(1, 1, 5, 8), sin=(1, 1, 5, 8))


@pytest.mark.parametrize("batch", [2, "n"])
@pytest.mark.parametrize("order", ["plain", "turned"])
@pytest.mark.parametrize("cuts", [((0, 4), (4, FAR)), ((0, -4), (-4, FAR)), ((0, 4), (4, 8))])
def test_fuses_the_half_split_form(cuts, order, batch, tmp_path):
    net = _net(batch)
    work = keeps_numbers(net.model(_rotary(net, cuts, order)), tmp_path)
    assert [g.fusion for g in work.fusions.groups] == ["rotary"]
    assert work.fusions.groups[0].spec.x == (batch, 3, 5, 8)


def test_fuses_a_rotation_by_constants(tmp_path):
    net = _net()
    net = Net(x=(2, 3, 5, 8))
    first, second = (net.Slice("x", net.ints(a), net.ints(a + 4), net.ints(3)) for a in (0, 4))
    turned = net.Concat(net.Neg(second), first, axis=-1)
    y = net.Add(net.Mul("x", net.weight(5, 8)), net.Mul(turned, net.weight(5, 8)))
    assert groups(keeps_numbers(net.model(y), tmp_path)) == ["rotary"]


@pytest.mark.parametrize(
    "cuts", [((4, FAR), (0, 4)), ((2, 6), (4, FAR)), ((0, 4), (3, 7)), ((0, 8, 2), (4, 8))], ids=str
)
def test_declines_other_slices(cuts, tmp_path):
    net = _net()
    work = keeps_numbers(net.model(_rotary(net, cuts)), tmp_path)
    assert groups(work) == []
    (reason,) = declined(work, "rotary")
    assert reason.startswith("the slices are")


def test_declines_a_sum_that_broadcasts(tmp_path):
    net = Net(x=(1, 3, 5, 8), cos=(2, 1, 5, 8), sin=(2, 1, 5, 8))
    work = keeps_numbers(net.model(_rotary(net)), tmp_path)
    assert groups(work) == []
    assert declined(work, "rotary") == {"the sum has shape (2, 3, 5, 8), want (1, 3, 5, 8)"}


def test_declines_an_open_head_size(tmp_path):
    net = Net(x=(1, 3, 5, "d"))
    first, second = (net.Slice("x", net.ints(a), net.ints(a + 4), net.ints(3)) for a in (0, 4))
    turned = net.Concat(net.Neg(second), first, axis=-1)
    y = net.Add(net.Mul("x", net.weight(5, 8)), net.Mul(turned, net.weight(5, 8)))
    work = fused(net.model(y), tmp_path)
    assert groups(work) == [] and declined(work, "rotary") == {"the head size is not known"}


@pytest.mark.parametrize("shared", ["slice0", "neg2", "concat3", "mul4"])
def test_leaves_shared_value_alone(shared, tmp_path):
    net = _net()
    work = keeps_numbers(net.model(_rotary(net), net.Neg(shared)), tmp_path)
    assert groups(work) == []
    (reason,) = declined(work, "rotary")
    assert "has a second reader" in reason
