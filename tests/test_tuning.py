from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

import tilewright
from tests import models
from tests.command_line import run_job_here
from tests.net import Net
from tilewright.autotune.records import Database
from tilewright.compiler import child
from tilewright.errors import OptionError, TargetError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A model with a task whose choices differ in speed, and come nowhere near the roof."""
    net = Net(x=(1, 40, 7, 7))
    y = net.Relu(net.Conv("x", net.weight(56, 40, 1, 1)))
    file = tmp_path_factory.mktemp("model") / "model.onnx"
    file.write_bytes(net.model(y).SerializeToString())
    return file


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Without the seconds that a new process takes to import everything."""
    monkeypatch.setattr(child, "call", run_job_here)


def _tune(path, db, **settings):
    events = []
    # Nothing wins by so much: the whole model is not compared, which takes most of a session.
    settings = {"min_gain": 0.9, **settings}
    found = tilewright.tune(path, db=db, threads=1, progress=events.append, **settings)
    return found, events


def test_every_trial_is_recorded_once_and_a_second_session_goes_on(path, tmp_path):
    db = tmp_path / "records.jsonl"
    first, events = _tune(path, db, trials=5)
    records, problems = Database(db).read()
    trials = [record for record in records if not record.confirmed]
    assert problems == [] and len(trials) == first["trials"] == 5
    assert [event["trials"] for event in events if event["event"] == "trial"] == [1, 2, 3, 4, 5]
    assert all(record.failure is None and record.facts and record.seconds for record in trials)
    _tune(path, db, trials=5)
    choices = [r.choice for r in Database(db).read()[0] if not r.confirmed]
    assert len(choices) == len(set(choices)) == 10


def test_fresh_leaves_aside_what_is_known(path, tmp_path):
    db = tmp_path / "records.jsonl"
    _tune(path, db, trials=3)
    _tune(path, db, trials=3, fresh=True)
    choices = [r.choice for r in Database(db).read()[0] if not r.confirmed]
    assert len(choices) == 6 and len(set(choices)) < 6


def test_a_budget_ends_a_session(path, tmp_path):
    found, _ = _tune(path, tmp_path / "r.jsonl", budget=0.001)
    assert found["trials"] == 0 and found["won"] == []


def test_a_confirmed_record_reaches_the_library(path, tmp_path):
    db = tmp_path / "records.jsonl"
    _tune(path, db, trials=2)
    record = next(r for r in Database(db).read()[0] if r.knobs)
    Database(db).rewrite([replace(record, confirmed=True)])
    tuned = tilewright.compile(path, db=db)
    plain = tilewright.compile(path, db=False)
    assert len(tuned.manifest["tuning"]["tuned"]) == tuned.manifest["tuning"]["groups"] == 1
    assert plain.manifest["tuning"]["tuned"] == []
    assert tuned.library.read_bytes() != plain.library.read_bytes()


def test_a_record_that_no_longer_fits_is_told_and_not_applied(path, tmp_path):
    db = tmp_path / "records.jsonl"
    _tune(path, db, trials=1)
    (record, *_) = Database(db).read()[0]
    Database(db).rewrite([replace(record, confirmed=True, knobs={"colour": 3})])
    manifest = tilewright.compile(path, db=db).manifest
    assert manifest["tuning"]["tuned"] == []
    assert "no knob colour" in next(iter(manifest["tuning"]["unfit"].values()))


def test_damaged_lines_are_told_and_left_alone(path, tmp_path):
    db = tmp_path / "records.jsonl"
    db.write_text('{"half a rec\n')
    _, events = _tune(path, db, trials=1)
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert len(notes) == 1 and f"{db}:1" in notes[0]
    assert len([r for r in Database(db).read()[0] if not r.confirmed]) == 1


def test_tasks_are_chosen_by_name(path, tmp_path):
    found, _ = _tune(path, tmp_path / "r.jsonl", trials=1, tasks="conv_block*")
    assert [task["task"] for task in found["tasks"]] == ["conv_block_0"]
    with pytest.raises(OptionError, match="no task or node is called nothing"):
        _tune(path, tmp_path / "r.jsonl", trials=1, tasks="nothing")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"budget": 0.0}, "a budget of 0 s"),
        ({"trials": 0}, "0 trials"),
        ({"min_gain": 1.5}, "a least gain of 1.5"),
        ({"options": tilewright.CompileOptions(opt_level=1)}, "nothing to tune"),
    ],
)
def test_bad_settings_are_told(path, tmp_path, settings, message):
    with pytest.raises(OptionError, match=message):
        _tune(path, tmp_path / "r.jsonl", **settings)


def test_another_machine_cannot_be_measured_here(path, tmp_path):
    with pytest.raises(TargetError, match="a session measures"):
        _tune(path, tmp_path / "r.jsonl", target="x86-64-avx512vnni")


def test_a_model_without_tasks_says_why(tmp_path):
    file = tmp_path / "open.onnx"
    file.write_bytes(models.unary("Abs").SerializeToString())
    with pytest.raises(OptionError, match="no group that a rule takes"):
        _tune(file, tmp_path / "r.jsonl", trials=1)


def test_open_sizes_are_tuned_and_applied(tmp_path):
    file, db = tmp_path / "open.onnx", tmp_path / "r.jsonl"
    file.write_bytes(models.linear("n").SerializeToString())
    options = tilewright.CompileOptions(dims={"n": (1, 16)})
    found, _ = _tune(file, db, trials=2, options=options)
    assert found["trials"] == 2 and found["left"] == {}
    record = next(r for r in Database(db).read()[0] if r.knobs)
    Database(db).rewrite([replace(record, confirmed=True)])
    assert tilewright.compile(file, db=db).manifest["tuning"]["tuned"]


def test_the_result_is_json(path, tmp_path):
    found, _ = _tune(path, tmp_path / "r.jsonl", trials=2)
    assert json.loads(json.dumps(found))["tasks"][0]["trials"] == 2


def test_two_sessions_on_one_file(path, tmp_path):
    db = tmp_path / "records.jsonl"
    tune = f"tilewright.tune({str(path)!r}, trials=6, threads=1, db={str(db)!r}, min_gain=0.9)"
    command = [sys.executable, "-c", f"import tilewright; {tune}"]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    records, problems = Database(db).read()
    assert problems == [] and len(records) == 12
