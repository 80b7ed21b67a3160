from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import models
from tests.compiling import compile_here
from tilewright.autotune import whole
from tilewright.autotune.records import Database, fingerprint
from tilewright.devices import local
from tilewright.targets import resolve

WON = [
    {"spec": "s", "rule": "conv", "knobs": {"rows": 3}, "seconds": [1, 2, 3], "default_seconds": 4}
]


@pytest.fixture
def job(tmp_path):
    return {"db": str(tmp_path / "r.jsonl"), "threads": 1, "seed": 0}


@pytest.fixture
def library(tmp_path):
    return compile_here(models.linear(), tmp_path).library


def _confirmed(job, monkeypatch, ratio: float, passed: bool) -> tuple[dict, list]:
    found = {"ratio": {"median": ratio, "low": ratio, "high": ratio}}
    monkeypatch.setattr(whole.child, "call", lambda *_args, **_named: dict(found))
    target = fingerprint(resolve("zen3"))
    artifact = SimpleNamespace(library="x.so", check={"passed": passed})
    said = whole.confirm(job, WON, target, artifact, artifact)
    return said, Database(whole.Path(job["db"])).read()[0]


def test_a_faster_model_that_is_right_is_confirmed(job, monkeypatch):
    said, (record,) = _confirmed(job, monkeypatch, 1.2, True)
    assert said["confirmed"] and record.confirmed and record.knobs == {"rows": 3}
    assert record.seconds == (1, 2, 3) and record.date


@pytest.mark.parametrize("ratio, passed", [(0.99, True), (1.2, False)])
def test_a_slower_or_wrong_model_is_not(job, monkeypatch, ratio, passed):
    said, records = _confirmed(job, monkeypatch, ratio, passed)
    assert not said["confirmed"] and records == []


def test_two_libraries_take_turns(library, monkeypatch):
    monkeypatch.setattr(local, "WHOLE_SECONDS", 0.1)
    files = {name: str(library) for name in ("before", "after")}
    target = resolve("native").to_dict()
    job = {**files, "threads": 1, "seed": 0, "devices": None, "target": target}
    found = whole.compare_job(job, None)
    assert 0.2 < found["ratio"]["median"] < 5 and found["before_seconds"] > 0


def test_choices_by_spec():
    assert whole.choices(WON) == {"s": {"rule": "conv", "knobs": {"rows": 3}}}
