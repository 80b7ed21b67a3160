from __future__ import annotations

import numpy as np

from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright.autotune import tasks as module
from tilewright.autotune.tasks import inputs_of, tasks_of
from tilewright.options import CompileOptions


def test_groups_with_equal_specs_are_one_task(tmp_path):
    net = Net(x=(1, 16, 8, 8))
    y = "x"
    for _ in range(3):
        y = net.Relu(net.Conv(y, net.weight(16, 16, 3, 3), pads=[1] * 4))
    tasks, left = tasks_of(compile_here(net.model(y), tmp_path, until="fuse"))
    assert [task.times for task in tasks] == [3] and left == {}
    assert len(tasks[0].nodes) == 2


def test_open_sizes_are_measured_at_three_sizes(tmp_path):
    work = compile_here(
        models.linear("n"), tmp_path, until="fuse", options=CompileOptions(dims={"n": (1, 16)})
    )
    (task,), left = tasks_of(work)
    assert left == {} and task.sizes == ({"n": 1}, {"n": 4}, {"n": 16})
    shapes = [[value.shape for value in values] for values in inputs_of(task, 0)]
    place = next(n for n, a in enumerate(task.call.arguments) if not a.known)
    assert [shape[place][0] for shape in shapes] == [1, 4, 16]


def test_sizes_that_nobody_knows_before_are_left_alone_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "representatives", lambda bounds: ({},))
    tasks, left = tasks_of(compile_here(models.linear("n"), tmp_path, until="fuse"))
    assert tasks == [] and left
    assert all("is not known before the model runs" in why for why in left.values())


def test_arguments_are_the_weights_and_random_numbers(tasks):
    for task in tasks:
        ((first,), (second,), (third,)) = (inputs_of(task, seed) for seed in (0, 0, 1))
        for argument, *values in zip(task.call.arguments, first, second, third, strict=True):
            assert all(value.shape == argument.shape for value in values)
            assert (values[0] == values[1]).all()
            if argument.known:
                assert values[2] is argument.array
            else:
                assert np.any(values[0] != values[2])
