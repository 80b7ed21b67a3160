from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.autotune.records import (
    Database,
    Record,
    best,
    confirmed_choices,
    fingerprint,
    not_quite,
    summary,
)
from tilewright.errors import OptionError, OutputError
from tilewright.targets import resolve

ZEN3, AVX2 = resolve("zen3"), resolve("x86-64-avx2")
RECORD = Record(
    spec='{"kind": "Gemm"}',
    target=fingerprint(ZEN3),
    threads=2,
    rule="linear",
    knobs={"rows": 4},
    seconds=(1.0, 2.0, 3.0),
    default_seconds=4.0,
    facts={"m": 1.5},
    date="2026-01-01T00:00:00+00:00",
)


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path / "deep" / "records.jsonl")


def test_what_is_written_is_read(database):
    failed = replace(RECORD, seconds=(), default_seconds=None, failure="it crashed: größer")
    database.append([RECORD, failed])
    database.append([replace(RECORD, confirmed=True)])
    assert database.read() == ([RECORD, failed, replace(RECORD, confirmed=True)], [])


def test_a_file_that_is_not_there_is_empty(database):
    assert database.read() == ([], [])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_costs_the_lines_it_touches_and_no_other(tmp_path_factory, data):
    database = Database(tmp_path_factory.mktemp("records") / "r.jsonl")
    records = [replace(RECORD, threads=n) for n in range(4)]
    database.append(records)
    text = database.path.read_bytes()
    at = data.draw(st.integers(0, len(text) - 1))
    line = text[:at].count(b"\n")
    flipped = bytes([data.draw(st.integers(0, 255).filter(lambda b: b != text[at]))])
    database.path.write_bytes(text[:at] + flipped + text[at + 1 :])
    found, problems = database.read()
    kept = [record for n, record in enumerate(records) if n not in (line, line + 1)]
    assert [record for record in found if record in kept] == kept
    assert all(record in records for record in found)
    assert len(found) >= 2 and len(problems) <= 3


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_what_a_crash_left_of_a_line_spoils_no_later_one(database, cut):
    database.append([RECORD, RECORD])
    whole = database.path.read_bytes()
    database.path.write_bytes(whole[:-cut])
    later = replace(RECORD, threads=7)
    database.append([later])
    found, problems = database.read()
    assert found[0] == RECORD and found[-1] == later
    assert [problem.line for problem in problems] == ([2] if cut > 1 else [])


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda fields: fields.update(rule="other"), "checksum"),
        (lambda fields: fields.pop("sum"), "no checksum"),
    ],
)
def test_what_was_changed_by_hand_is_told(database, change, reason):
    fields = json.loads(RECORD.line())
    change(fields)
    database.path.parent.mkdir()
    database.path.write_text(json.dumps(fields) + "\n")
    (problem,) = database.read()[1]
    assert problem.line == 1 and reason in problem.reason


def test_a_record_of_another_format_is_refused(database):
    database.append([replace(RECORD, format=99)])
    found, (problem,) = database.read()
    assert found == [] and "format 99" in problem.reason


def _appends(path, name):
    for n in range(40):
        Database(path).append([replace(RECORD, threads=n, rule=name)])


def test_two_processes_may_write_at_once(database):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_appends, args=(database.path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found, problems = database.read()
    assert problems == []
    for name in "ab":
        assert [record.threads for record in found if record.rule == name] == list(range(40))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write the records"):
        Database(tmp_path / "r.jsonl").append([RECORD])


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the records"):
        Database(tmp_path / "file" / "r.jsonl").append([RECORD])


def test_only_confirmed_records_of_the_target_count():
    other = replace(RECORD, target=fingerprint(AVX2), confirmed=True)
    assert best([RECORD, other], fingerprint(ZEN3)) == {}
    confirmed = replace(RECORD, confirmed=True)
    assert best([RECORD, other, confirmed], fingerprint(ZEN3)) == {RECORD.spec: confirmed}


def test_the_newest_of_the_same_threads_counts():
    one, two, three = (replace(RECORD, confirmed=True, threads=n) for n in (1, 2, 1))
    three = replace(three, rule="newer")
    assert best([one, two, three], RECORD.target, 2)[RECORD.spec] == two
    assert best([one, two, three], RECORD.target, 1)[RECORD.spec] == three
    assert best([one, two], RECORD.target, 8)[RECORD.spec] == two


def test_choices_for_a_compilation(database, tmp_path):
    database.append([replace(RECORD, confirmed=True)])
    assert confirmed_choices(database.path, ZEN3, 2) == {
        RECORD.spec: {"rule": "linear", "knobs": {"rows": 4}}
    }
    assert confirmed_choices(database.path, AVX2, 2) == {}
    assert confirmed_choices(False, ZEN3, 2) == {}
    with pytest.raises(OptionError, match="no tuning records"):
        confirmed_choices(tmp_path / "none.jsonl", ZEN3, 2)


def test_a_fingerprint_is_of_what_decides_which_choice_is_fast():
    assert fingerprint(ZEN3) == fingerprint(replace(ZEN3, title="another title", name="mine"))
    for change in ({"l2_bytes": 1 << 20}, {"cores": 3}, {"features": ZEN3.features[:-1]}):
        assert fingerprint(ZEN3) != fingerprint(replace(ZEN3, **change))


def test_a_summary_has_a_row_for_each_task():
    failed = replace(RECORD, seconds=(), default_seconds=None, failure="it crashed")
    (row,) = summary([RECORD, failed, replace(RECORD, confirmed=True)])
    assert (row["trials"], row["failures"], row["rule"], row["gain"]) == (2, 1, "linear", 2.0)
    (row,) = summary([RECORD])
    assert row["rule"] is None and row["gain"] is None


def test_records_that_are_for_something_else(database):
    confirmed = replace(RECORD, confirmed=True)
    other = replace(confirmed, target=fingerprint(AVX2))
    database.append([confirmed, replace(confirmed, threads=1), other, RECORD])
    found = not_quite(database.path, {RECORD.spec}, ZEN3, 2)
    assert list(found.values()) == [1, 1]
    assert "measured on 1 threads, not 2" in found
    assert any(why.startswith("for another target and not applied") for why in found)
    assert not_quite(database.path, {"another"}, ZEN3, 2) == {}
    assert not_quite(False, {RECORD.spec}, ZEN3, 2) == {}
