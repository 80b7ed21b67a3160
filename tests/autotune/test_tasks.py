from __future__ import annotations

import numpy as np

from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright.autotune.tasks import inputs_of, tasks_of


def test_groups_with_equal_specs_are_one_task(tmp_path):
    net = Net(x=(1, 16, 8, 8))
    y = "x"
    for _ in range(3):
        y = net.Relu(net.Conv(y, net.weight(16, 16, 3, 3), pads=[1] * 4))
    tasks, left = tasks_of(compile_here(net.model(y), tmp_path, until="fuse"))
    assert [task.times for task in tasks] == [3] and left == {}
    assert len(tasks[0].nodes) == 2


def test_open_sizes_are_left_alone_with_a_reason(tmp_path):
    tasks, left = tasks_of(compile_here(models.linear("n"), tmp_path, until="fuse"))
    assert tasks == [] and all("its sizes are open" in why for why in left.values()) and left


def test_arguments_are_the_weights_and_random_numbers(tasks):
    for task in tasks:
        first, second, third = (inputs_of(task, seed) for seed in (0, 0, 1))
        for argument, *values in zip(task.call.arguments, first, second, third, strict=True):
            assert all(value.shape == argument.shape for value in values)
            assert (values[0] == values[1]).all()
            if argument.known:
                assert values[2] is argument.array
            else:
                assert np.any(values[0] != values[2])
