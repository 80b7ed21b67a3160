"""A session whose trials go wrong; what a user sees of a session is in tests/test_tuning.py."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from random import Random

import pytest

from tests.net import Net
from tilewright import api
from tilewright.autotune import session as module
from tilewright.autotune.records import Database
from tilewright.autotune.session import session_job
from tilewright.devices import local
from tilewright.devices.device import DEFAULT
from tilewright.devices.process import Process
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
        "devices": None,
        "cache": True,
        "seed": 0,
        "db": f"{tmp_path}/r.jsonl",
    }


def _spoiled(monkeypatch, fault):
    """Every second program that is no default goes wrong when it is to run."""
    real, count = local.serve, iter(range(1000))
    # Counted here: the programs are served in copies of this process.
    spoiled = set()
    start = local.Waiting.__init__

    def begin(self, task, name, threads):
        if name != DEFAULT and next(count) % 2 == 0:
            spoiled.add(name)
        start(self, task, name, threads)
        spoiled.discard(name)

    def serve(task, name, threads, send, commands):
        work = fault if name in spoiled else real
        work(task, name, threads, send, commands)

    monkeypatch.setattr(local.Waiting, "__init__", begin)
    monkeypatch.setattr(local, "serve", serve)


def _crashes(*_given):
    ctypes.string_at(0)


def _hangs(*_given):
    time.sleep(600)


def _hangs_when_it_runs(_task, _name, _threads, send, commands):
    send(ready=True)
    next(iter(commands))
    time.sleep(600)


def _is_too_fast(_task, _name, _threads, send, commands):
    send(ready=True)
    for _ in commands:
        send(times=[1e-12] * 10)


@pytest.mark.parametrize(
    "fault, reason",
    [
        (_crashes, "SIGSEGV"),
        (_hangs, "longer than"),
        (_hangs_when_it_runs, "longer than"),
        (_is_too_fast, "more than this machine can do"),
    ],
)
def test_a_session_goes_on_after_trials_that_go_wrong(job, monkeypatch, fault, reason):
    if reason == "longer than":
        monkeypatch.setattr(local, "START_SECONDS", 3.0)
        monkeypatch.setattr(local, "RUN_SECONDS", 1.0)
    _spoiled(monkeypatch, fault)
    found = session_job(job, lambda kind, **fields: None)
    (task,) = found["tasks"]
    assert found["trials"] == 4 and sum(task["failures"].values()) >= 2
    assert all(reason in why for why in task["failures"])
    records, _ = Database(module.Path(job["db"])).read()
    assert len(records) == 4 and len([r for r in records if r.failure]) >= 2


def test_failed_choices_are_not_tried_again(job, monkeypatch):
    _spoiled(monkeypatch, _crashes)
    session_job(job, lambda kind, **fields: None)
    monkeypatch.undo()
    session_job(job, lambda kind, **fields: None)
    choices = [record.choice for record in Database(module.Path(job["db"])).read()[0]]
    assert len(choices) == len(set(choices)) == 8


def test_choices_that_do_not_build_are_failures(job, monkeypatch):
    real = module.start

    def start(task, choice, conditions, folder):
        if choice is None:
            return real(task, choice, conditions, folder)
        return Process(lambda send, _commands: ctypes.string_at(0))

    monkeypatch.setattr(module, "start", start)
    found = session_job(job, lambda kind, **fields: None)
    assert found["trials"] == 4 and sum(found["tasks"][0]["failures"].values()) == 4


_SESSION = (
    "import json, sys; from tilewright.autotune.session import session_job; "
    "session_job(json.loads(sys.argv[1]), lambda *_, **__: None)"
)


def test_sessions_killed_at_ten_moments_lose_and_double_nothing(job):
    random, total = Random(0), 0
    database = Database(module.Path(job["db"]))
    endless = {**job, "trials": 400, "min_gain": 0.0}
    for number in range(10):
        before = database.read()[0]
        session = subprocess.Popen([sys.executable, "-c", _SESSION, json.dumps(endless)])
        # Every second one is in the middle of its trials, the others anywhere before.
        deadline = time.monotonic() + 60
        while number % 2 and len(database.read()[0]) == len(before):
            assert time.monotonic() < deadline and session.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0, 1.5 if number % 2 else 3))
        session.kill()
        session.wait()
        after, problems = database.read()
        assert problems == [] and after[: len(before)] == before
        total += len(after) - len(before)
    found = session_job({**job, "trials": 2}, lambda *_a, **_f: None)
    choices = [record.choice for record in database.read()[0]]
    assert found["trials"] == 2 and len(choices) == len(set(choices)) == total + 2 > 7
