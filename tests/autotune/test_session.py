"""A session whose trials go wrong; what a user sees of a session is in tests/test_tuning.py."""

from __future__ import annotations

import ctypes
import time

import pytest

from tests.net import Net
from tilewright import api
from tilewright.autotune import session as module
from tilewright.autotune import trial as trials
from tilewright.autotune.records import Database
from tilewright.autotune.session import session_job
from tilewright.options import CompileOptions
from tilewright.targets import resolve


@pytest.fixture
def job(tmp_path):
    """A session over one small convolution, in this process."""
    net = Net(x=(1, 32, 14, 14))
    path = tmp_path / "model.onnx"
    path.write_bytes(net.model(net.Conv("x", net.weight(32, 32, 1, 1))).SerializeToString())
    made = api.job_of(path, tmp_path, resolve("native"), None, CompileOptions(), None)
    settings = {"threads": 1, "budget": None, "trials": 4, "min_gain": 0.01, "fresh": False}
    return {
        **made,
        **settings,
        "tasks": None,
        "cache": True,
        "seed": 0,
        "db": f"{tmp_path}/r.jsonl",
    }


def _spoiled(monkeypatch, fault):
    """Every second choice that is no default goes wrong."""
    real, count = trials.start, iter(range(1000))

    def start(task, choice, conditions, reference):
        if choice is None or next(count) % 2:
            return real(task, choice, conditions, reference)
        return trials.Trial(fault)

    monkeypatch.setattr(module, "start", start)


def _hangs(send, commands):
    time.sleep(600)


def _hangs_when_it_runs(send, commands):
    send(rule="conv", flops=1)
    next(commands)
    time.sleep(600)


def _is_too_fast(send, commands):
    send(rule="conv", flops=10**15)
    for _ in commands:
        send(times=[1e-6] * 10)


@pytest.mark.parametrize(
    "fault, reason",
    [
        (lambda send, commands: ctypes.string_at(0), "SIGSEGV"),
        (_hangs, "longer than"),
        (_hangs_when_it_runs, "longer than"),
        (_is_too_fast, "more than this machine can do"),
    ],
)
def test_a_session_goes_on_after_trials_that_go_wrong(job, monkeypatch, fault, reason):
    monkeypatch.setattr(module, "BUILD_SECONDS", 3.0)
    monkeypatch.setattr(trials, "RUN_SECONDS", 1.0)
    _spoiled(monkeypatch, fault)
    found = session_job(job, lambda kind, **fields: None)
    (task,) = found["tasks"]
    assert found["trials"] == 4 and sum(task["failures"].values()) >= 2
    assert all(reason in why for why in task["failures"])
    records, _ = Database(module.Path(job["db"])).read()
    assert len(records) == 4 and len([r for r in records if r.failure]) >= 2


def test_failed_choices_are_not_tried_again(job, monkeypatch):
    _spoiled(monkeypatch, lambda send, commands: ctypes.string_at(0))
    session_job(job, lambda kind, **fields: None)
    monkeypatch.undo()
    session_job(job, lambda kind, **fields: None)
    choices = [record.choice for record in Database(module.Path(job["db"])).read()[0]]
    assert len(choices) == len(set(choices)) == 8


def test_the_end_of_the_default_is_no_failure_of_a_choice(job, monkeypatch):
    real, calls = module.duel, iter(range(1000))

    def duel(default, other, *rounds):
        if next(calls) == 0:
            default.close()
        return real(default, other, *rounds)

    monkeypatch.setattr(module, "duel", duel)
    found = session_job(job, lambda kind, **fields: None)
    assert found["trials"] == 4 and found["tasks"][0]["failures"] == {}
