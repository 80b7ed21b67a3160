from __future__ import annotations

import json

from tests import models
from tests.command_line import command
from tests.compiling import compile_here


def test_a_model_is_compiled_and_compared(here, model_file, capsys):
    assert command("verify", model_file(models.linear("n")), "-q") == 0
    out = capsys.readouterr().out
    assert "n=1" in out and "n=9" in out and "agrees with ONNX Runtime" in out
    assert list(here.iterdir()) == []


def test_an_artifact_with_another_model_is_exit_code_1(here, model_file, tmp_path, capsys):
    library = compile_here(models.unary("Neg"), tmp_path).library
    path = model_file(models.unary("Relu"))
    assert command("verify", library, "--model", path, "-q", "--json") == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False
    assert command("verify", library, "--model", path, "-q") == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_a_bundle_needs_nothing_else(here, model_file, capsys):
    command("compile", model_file(models.linear()), "-q", "--bundle", "b")
    assert command("verify", "b", "-q") == 0
    assert "golden outputs of ONNX Runtime" in capsys.readouterr().out
