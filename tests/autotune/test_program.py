from __future__ import annotations

import multiprocessing

import numpy as np

from tests.compiling import compile_here, reference
from tests.net import Net
from tilewright.autotune.program import Program
from tilewright.autotune.tasks import inputs_of, tasks_of
from tilewright.targets.rules.catalogue import lower


def _result(task, conditions, folder, queue):
    _rule, lowered = lower(task.call, conditions.target)
    program = Program(task, lowered, inputs_of(task, 0), conditions, folder)
    queue.put((program.result().copy(), program.times(0.01)))


def _in_process(task, conditions, folder):
    """In a process of its own, as in a session: here, threads would stay."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_result, args=(task, conditions, folder, queue))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    return found


def test_a_group_gives_what_onnxruntime_gives(tmp_path, conditions):
    net = Net(x=(1, 16, 14, 14))
    model = net.model(net.Relu(net.Conv("x", net.weight(24, 16, 3, 3), pads=[1] * 4)))
    (task,), _ = tasks_of(compile_here(model, tmp_path, until="fuse"))
    result, times = _in_process(task, conditions, tmp_path)
    x = next(value for value in inputs_of(task, 0) if value.shape == (1, 16, 14, 14))
    (wanted,) = reference(model, {"x": x})
    np.testing.assert_allclose(result, wanted, rtol=1e-3, atol=1e-4)
    assert len(times) > 0 and min(times) > 0


def test_every_task_runs_alone(tasks, conditions, tmp_path):
    for number, task in enumerate(tasks):
        folder = tmp_path / str(number)
        folder.mkdir()
        result, _ = _in_process(task, conditions, folder)
        assert result.shape == task.call.result.shape and np.isfinite(result).all()
