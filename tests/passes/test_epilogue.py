from __future__ import annotations

import itertools

import pytest

from tests.net import Net, groups, keeps_numbers

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
