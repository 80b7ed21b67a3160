from __future__ import annotations

import numpy as np
import pytest

from tests.compiling import compile_here, reference
from tests.net import Net
from tilewright.autotune.build import start
from tilewright.autotune.tasks import inputs_of, tasks_of
from tilewright.devices.process import Process
from tilewright.devices.program import Program, save_arguments
from tilewright.options import CompileOptions


def _run(task, conditions, folder):
    """The result and times; in a process of its own, as in a session: here, threads would stay."""
    save_arguments(folder, inputs_of(task, 0))
    start(task, None, conditions, folder / "default").answer(60)

    def work(send, _commands):
        program = Program(folder / "default", folder, threads=1)
        np.save(folder / "result.npy", program.results()[0])
        send(times=program.times(0.01))

    times = Process(work).answer(60)["times"]
    return np.load(folder / "result.npy"), times


def test_a_group_gives_what_onnxruntime_gives(tmp_path, conditions):
    net = Net(x=(1, 16, 14, 14))
    model = net.model(net.Relu(net.Conv("x", net.weight(24, 16, 3, 3), pads=[1] * 4)))
    (task,), _ = tasks_of(compile_here(model, tmp_path, until="fuse"))
    result, times = _run(task, conditions, tmp_path)
    x = next(value for value in inputs_of(task, 0)[0] if value.shape == (1, 16, 14, 14))
    (wanted,) = reference(model, {"x": x})
    np.testing.assert_allclose(result, wanted, rtol=1e-3, atol=1e-4)
    assert len(times) > 0 and min(times) > 0


def test_every_task_runs_alone(tasks, conditions, tmp_path):
    for number, task in enumerate(tasks):
        folder = tmp_path / str(number)
        folder.mkdir()
        result, _ = _run(task, conditions, folder)
        assert result.shape == task.call.result.shape and np.isfinite(result).all()


def test_what_is_missing_is_told(task):
    next(task.glob("default/packed*.npy")).unlink()
    with pytest.raises(KeyError, match="packed"):
        Program(task / "default", task, threads=1)


def test_several_sizes_are_one_program(tmp_path, conditions):
    net = Net(x=("n", 48))
    model = net.model(net.Relu(net.Gemm("x", net.weight(48, 32))))
    work = compile_here(model, tmp_path, until="fuse", options=CompileOptions(dims={"n": (1, 9)}))
    (task,), _ = tasks_of(work)
    arguments = inputs_of(task, 0)
    save_arguments(tmp_path, arguments)
    start(task, None, conditions, tmp_path / "default").answer(60)

    def run(send, _commands):
        program = Program(tmp_path / "default", tmp_path, threads=1)
        for size, result in enumerate(program.results()):
            np.save(tmp_path / f"result{size}.npy", result)
        send(times=program.times(0.01))

    assert min(Process(run).answer(60)["times"]) > 0
    for size, rows in enumerate((1, 3, 9)):
        x = next(value for value in arguments[size] if value.shape == (rows, 48))
        (wanted,) = reference(model, {"x": x})
        np.testing.assert_allclose(np.load(tmp_path / f"result{size}.npy"), wanted, atol=1e-5)
