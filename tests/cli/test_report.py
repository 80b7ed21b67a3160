from __future__ import annotations

import json

import pytest

from tilewright.cli.report import Report, bytes_text, seconds_text, threads_text
from tilewright.errors import OutputError


@pytest.fixture
def report() -> Report:
    report = Report("a title", {"answer": 42, "name": "größe"})
    report.table("heading", ["key", "value"], [["answer", 42], ["[red]x[/red]", "y" * 50]])
    report.lines.append("the [last] line")
    return report


def test_text_goes_to_stdout_without_colour_and_markup_is_text(report, capsys):
    report.emit(None, None)
    out = capsys.readouterr().out
    assert "heading" in out and "42" in out and "[red]x[/red]" in out and "the [last] line" in out
    assert "\x1b" not in out


def test_json_to_stdout_is_the_only_thing_there(report, capsys):
    report.emit("-", None)
    assert json.loads(capsys.readouterr().out) == report.data


def test_json_and_html_to_files(report, tmp_path, capsys):
    report.emit(str(tmp_path / "r.json"), tmp_path / "r.html")
    assert json.loads((tmp_path / "r.json").read_text()) == report.data
    assert "<title>a title</title>" in (tmp_path / "r.html").read_text()
    assert "42" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_cannot_be_written_is_an_output_error(report, tmp_path):
    with pytest.raises(OutputError):
        report.emit(str(tmp_path / "absent" / "r.json"), None)


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e9, "3.0 GB")]
)
def test_sizes_for_people(size, text):
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    "seconds, text", [(2, "2 s"), (0.0123, "12.3 ms"), (4.2e-6, "4.2 us"), (61.5, "61.5 s")]
)
def test_times_for_people(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize("threads, text", [(1, "1 thread"), (2, "2 threads")])
def test_threads_for_people(threads, text):
    assert threads_text(threads) == text
