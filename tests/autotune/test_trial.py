from __future__ import annotations

import ctypes
import time

import numpy as np
import pytest

from tests.processes import alive
from tilewright.autotune.trial import Trial, TrialFailed, quartiles, start
from tilewright.targets.rules.catalogue import Choice


def _echo(send, commands):
    send(ready=True)
    for line in commands:
        send(times=[float(line)])


def test_a_trial_answers_and_ends():
    trial = Trial(_echo)
    assert trial.answer(5) == {"ready": True}
    assert trial.run(0.25) == [0.25]
    pid = trial.pid
    trial.close()
    assert not alive(pid)
    trial.close()


def test_a_crash_is_a_failure_with_a_reason():
    trial = Trial(lambda send, commands: ctypes.string_at(0))
    with pytest.raises(TrialFailed, match="SIGSEGV"):
        trial.answer(10)
    trial.close()


def test_a_crash_while_it_runs():
    def work(send, commands):
        send(ready=True)
        next(commands)
        ctypes.string_at(0)

    trial = Trial(work)
    trial.answer(10)
    with pytest.raises(TrialFailed, match="SIGSEGV"):
        trial.run(0.01)
    with pytest.raises(TrialFailed, match="SIGSEGV"):
        trial.run(0.01)
    trial.close()


def test_what_never_ends_is_ended():
    trial = Trial(lambda send, commands: time.sleep(600))
    begin = time.monotonic()
    with pytest.raises(TrialFailed, match=r"longer than 0\.3 s"):
        trial.answer(0.3)
    assert time.monotonic() - begin < 10 and not alive(trial.pid)


def test_an_exception_is_told():
    def work(send, commands):
        raise ValueError("too\nmany rows")

    with pytest.raises(TrialFailed, match="ValueError: many rows"):
        Trial(work).answer(10)


@pytest.fixture
def reference(tasks, conditions, tmp_path):
    """The file with the default's result, for the first task."""
    path = tmp_path / "reference.npy"
    trial = start(tasks[0], None, conditions, path)
    said = trial.answer(60)
    assert said["flops"] > 0 and len(trial.run(0.01)) > 0
    trial.close()
    return path


def test_the_default_leaves_its_result_for_the_others(tasks, conditions, reference):
    rule = start(tasks[0], None, conditions, reference).answer(60)["rule"]
    trial = start(tasks[0], Choice(rule, {}), conditions, reference)
    assert trial.answer(60)["rule"] == rule
    trial.close()


def test_wrong_numbers_fail(tasks, conditions, reference):
    values = np.load(reference)
    values.flat[3] += 1e-3 * np.abs(values).max() + 1e-3
    np.save(reference, values)
    rule = start(tasks[0], None, conditions, reference.with_name("b.npy")).answer(60)["rule"]
    with pytest.raises(TrialFailed, match="numbers are wrong"):
        start(tasks[0], Choice(rule, {}), conditions, reference).answer(60)


@pytest.mark.parametrize("choice", [Choice("no such rule", {}), Choice("conv", {"rows": 99})])
def test_a_choice_that_does_not_fit_fails(tasks, conditions, reference, choice):
    with pytest.raises(TrialFailed, match="KnobError"):
        start(tasks[0], choice, conditions, reference).answer(60)


def test_quartiles():
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
