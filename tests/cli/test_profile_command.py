from __future__ import annotations

import json

from tests import models
from tests.command_line import command
from tests.compiling import compile_here


def test_shows_rules_kernels_and_the_whole(here, model_file, capsys):
    model = model_file(models.linear())
    assert command("profile", model, "-q", "--seconds", "0", "--threads", "1") == 0
    out = capsys.readouterr().out
    assert "by rule" in out and "by kernel" in out and "GF/s" in out
    assert "(MatMul)" in out or "(Gemm)" in out
    assert "a run takes" in out and "this machine:" in out


def test_json_and_page(here, linear_library, capsys):
    words = ["-q", "--seconds", "0", "--json", "p.json", "--html", "p.html"]
    assert command("profile", linear_library, *words) == 0
    found = json.loads((here / "p.json").read_text())
    assert found["kernels"] and found["kernels"][0]["name"] in (here / "p.html").read_text()


def test_an_open_size_has_no_operations(here, tmp_path, capsys):
    library = compile_here(models.linear("n"), tmp_path).library
    assert command("profile", library, "-q", "--seconds", "0") == 0
    assert "by kernel" in capsys.readouterr().out
