from __future__ import annotations

import click
import pytest

from tilewright.cli import console
from tilewright.errors import CheckFailed, OptionError


def _code(raises, monkeypatch) -> int:
    @click.command()
    def stub() -> int:
        if isinstance(raises, BaseException):
            raise raises
        return raises

    monkeypatch.setattr("sys.argv", ["tilewright"])
    return console.run(stub)


@pytest.mark.parametrize(
    "ending, code, says",
    [
        (0, 0, ""),
        (1, 1, ""),
        (None, 0, ""),
        (OptionError("no", hint="do"), 2, "error: no\n  hint: do\n"),
        (CheckFailed("wrong"), 1, "error: wrong\n"),
        (click.UsageError("what"), 2, "what"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
    ],
    ids=repr,
)
def test_every_ending_is_an_exit_code(ending, code, says, monkeypatch, capsys):
    assert _code(ending, monkeypatch) == code
    captured = capsys.readouterr()
    assert captured.out == "" and says in captured.err


def test_a_reader_that_left_is_no_failure(monkeypatch):
    import io
    import sys

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert _code(BrokenPipeError(), monkeypatch) == 0


EVENTS = [
    {"event": "start", "step": "load"},
    {"event": "done", "step": "load", "seconds": 1.5, "note": "3 nodes"},
    {"event": "start", "step": "verify"},
    {"event": "done", "step": "verify", "seconds": None, "note": "good"},
]


def test_progress_is_a_line_per_step_on_stderr(capsys):
    with console.Progress(0) as progress:
        for event in EVENTS:
            progress(event)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2 and "load" in lines[0] and "1.50 s  3 nodes" in lines[0]
    assert "0.00 s  good" in lines[1]
    assert "\x1b" not in err, "no colour where there is no terminal"


def test_quiet_says_nothing(capsys):
    with console.Progress(-1) as progress:
        for event in EVENTS:
            progress(event)
    console.say("hint", -1)
    assert capsys.readouterr() == ("", "")
    console.say("hint", 0)
    assert capsys.readouterr().err == "hint\n"


def test_with_progress_gives_what_the_action_gives(capsys):
    assert console.with_progress(0, lambda progress: 42) == 42
