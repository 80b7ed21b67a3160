from __future__ import annotations

import json

from tests.command_line import command
from tilewright.analysis import doctor
from tilewright.analysis.doctor import Finding


def test_a_good_installation_is_exit_code_0(capsys):
    assert command("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["good"] is True


def test_something_missing_is_exit_code_2_with_how_to_mend_it(capsys, monkeypatch):
    bad = Finding("C compiler", False, "not found", "apt-get install gcc")
    monkeypatch.setattr(doctor, "examine", lambda: [bad])
    assert command("doctor") == 2
    out = capsys.readouterr().out
    assert "MISSING" in out and "apt-get install gcc" in out


def test_an_absent_extra_is_no_failure(capsys, monkeypatch):
    absent = Finding("pillow (extra demo)", False, "not installed", "pip install x", needed=False)
    monkeypatch.setattr(doctor, "examine", lambda: [absent])
    assert command("doctor") == 0
    assert "absent" in capsys.readouterr().out
