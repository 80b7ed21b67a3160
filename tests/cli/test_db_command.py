from __future__ import annotations

import json

import pytest

from tests.autotune.test_records import RECORD, replace
from tests.command_line import command
from tilewright.autotune.records import Database
from tilewright.errors import OptionError


@pytest.fixture
def db(here):
    Database(here / "r.jsonl").append([RECORD, replace(RECORD, confirmed=True)])
    return here / "r.jsonl"


def test_stats(db, capsys):
    assert command("db", "stats", "--db", str(db)) == 0
    out = capsys.readouterr().out
    assert RECORD.target in out and "2 records, 0 damaged lines" in out


def test_show_by_text(db, capsys):
    command("db", "show", "Gemm", "--db", str(db))
    assert "+100.0%" in capsys.readouterr().out
    command("db", "show", "Attention", "--db", str(db), "--json")
    assert json.loads(capsys.readouterr().out) == {"tasks": []}


def test_merge_adds_what_is_new(db, capsys):
    other = db.with_name("o.jsonl")
    Database(other).append([RECORD, replace(RECORD, threads=9)])
    assert command("db", "merge", str(other), "--db", str(db)) == 0
    assert "1 of 2 records added" in capsys.readouterr().out
    assert len(Database(db).read()[0]) == 3


def test_prune_keeps_the_newest(db, capsys):
    newer = replace(RECORD, confirmed=True, date="2027-01-01T00:00:00+00:00")
    Database(db).append([newer])
    with db.open("a") as file:
        file.write("damaged\n")
    assert command("db", "prune", "--db", str(db)) == 0
    assert Database(db).read() == ([RECORD, newer], [])


def test_doctor_finds_damage(db, capsys):
    assert command("db", "doctor", "--db", str(db)) == 0
    with db.open("a") as file:
        file.write("damaged\n")
    assert command("db", "doctor", "--db", str(db)) == 1
    assert f"{db}:3: it is no JSON" in capsys.readouterr().out


def test_export_writes_what_compilations_need(db):
    assert command("db", "export", "out.jsonl", "--db", str(db)) == 0
    (record,) = Database(db.with_name("out.jsonl")).read()[0]
    assert record.confirmed


@pytest.mark.parametrize("words", [["stats"], ["show"], ["prune"], ["doctor"], ["export", "f"]])
def test_no_records_is_an_error(here, words):
    with pytest.raises(OptionError, match="there are no tuning records"):
        command("db", *words, "--db", "none.jsonl")
