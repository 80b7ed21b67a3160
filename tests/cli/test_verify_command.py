from __future__ import annotations

import json

from tests import models
from tests.command_line import command, refused
from tests.compiling import compile_here
from tests.planted import each_kernel, negated
from tilewright import api
from tilewright.compiler.faults import Fault
from tilewright.errors import OptionError


def test_a_model_is_compiled_and_compared(here, model_file, capsys):
    assert command("verify", model_file(models.linear("n")), "-q", "--examples", "5") == 0
    out = capsys.readouterr().out
    assert "agrees with ONNX Runtime" in out and "on 5 examples of" in out and "SQNR" in out
    assert list(here.iterdir()) == [], "nothing is left behind where nothing failed"


def test_a_failure_is_exit_code_1_and_leaves_its_reproduction(here, model_file, tmp_path, capsys):
    library = compile_here(models.unary("Neg"), tmp_path).library
    path = model_file(models.unary("Relu"))
    assert command("verify", library, "--model", path, "-q", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False and found["failure"]["folder"].startswith(str(here))
    assert command("verify", library, "--model", path, "-q") == 1
    out = capsys.readouterr().out
    assert "DISAGREES" in out and "the smallest failure" in out and "reproduction: " in out
    assert [path.name for path in here.iterdir()] == ["tilewright-failures"]


def test_a_budget_that_cannot_be_read_is_refused(here, model_file):
    path = model_file(models.linear())
    refused(OptionError, "verify", path, "--budget", "soon", says=["--budget soon"])


def test_a_bundle_needs_nothing_else(here, model_file, capsys):
    command("compile", model_file(models.linear()), "-q", "--bundle", "b")
    assert command("verify", "b", "-q") == 0
    assert "golden outputs of ONNX Runtime" in capsys.readouterr().out


def test_a_failure_is_traced(here, model_file, monkeypatch, capsys):
    path = model_file(models.linear())
    fault = Fault("rule", "linear", each_kernel(negated))
    front = api.verify
    monkeypatch.setattr(api, "verify", lambda *a, **k: front(*a, **k, faults=[fault]))
    words = ("verify", path, "-q", "--input", "random", "--localize", "--no-db")
    assert command(*words, "--json", "found.json") == 1
    out = capsys.readouterr().out
    for part in (
        "the first wrong tensor",
        "--disable linear_rule",
        "Rule linear did it",
        "minimal",
    ):
        assert part in out
    cause = json.loads((here / "found.json").read_text())["cause"]
    assert cause["culprit"]["name"] == "linear" and cause["text"] in out
    assert cause["tried"] == [{"off": "--disable linear_rule", "fails": False}]


def test_what_is_compiled_already_cannot_be_traced(here, model_file, linear_library):
    path = model_file(models.linear())
    words = ("verify", linear_library, "--model", path, "--localize")
    refused(OptionError, *words, says=["an .onnx file, for --localize"])


def test_where_nothing_fails_nothing_is_traced(here, model_file, capsys):
    words = (
        "verify",
        model_file(models.linear()),
        "-q",
        "--input",
        "random",
        "--localize",
        "--json",
    )
    assert command(*words) == 0
    assert json.loads(capsys.readouterr().out)["cause"] is None
