from __future__ import annotations

import dataclasses
import json

import pytest

from tests.command_line import command
from tilewright.errors import TargetError
from tilewright.targets import CATALOG, host


def test_lists_every_row_and_this_machine(capsys):
    assert command("targets") == 0
    out = capsys.readouterr().out
    assert all(row.name in out for row in CATALOG) and "native" in out


@pytest.mark.parametrize("name", ["native", "x86-64-avx2"])
def test_shows_one_in_full(name, capsys):
    command("targets", name, "--json")
    facts = json.loads(capsys.readouterr().out)
    assert facts["name"] == name and facts["source"] and facts["vector_bits"] >= 128


def test_an_unknown_one_is_refused():
    with pytest.raises(TargetError, match="'x86-64-avx52'"):
        command("targets", "x86-64-avx52")


def test_a_machine_that_cannot_build_still_lists_the_rows(capsys, monkeypatch):
    sparc = dataclasses.replace(host.detect(), machine="sparc64")
    monkeypatch.setattr(host, "detect", lambda: sparc)
    assert command("targets", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["native"] is None and len(found["targets"]) == len(CATALOG)
