from __future__ import annotations

import json

from tests import models
from tests.command_line import command


def test_shows_a_model(here, model_file, capsys):
    assert command("inspect", model_file(models.conv_net())) == 0
    out = capsys.readouterr().out
    for part in ("opset", "17", "conv_block", "float32", "[1, 3, 8, 8]"):
        assert part in out


def test_shows_what_is_not_supported(here, model_file, capsys):
    assert command("inspect", model_file(models.unsupported())) == 0
    out = capsys.readouterr().out
    assert "my.domain.Fancy (2)" in out and "tilewright preflight" in out


def test_shows_an_artifact_and_a_bundle(here, model_file, linear_library, capsys):
    assert command("inspect", linear_library) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "model.onnx, opset 17" in text
    assert "linear_0 1 linear product (MatMul), bias (Add), relu (Relu)" in text
    command("compile", model_file(models.linear()), "-q", "--bundle", "b")
    capsys.readouterr()
    assert command("inspect", "b", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"]["file"] == "model.onnx"


def test_takes_shapes(here, model_file, capsys):
    path = model_file(models.linear("n"))
    command("inspect", path, "--json")
    assert json.loads(capsys.readouterr().out)["inputs"][0]["shape"] == ["n", 64]
    command("inspect", path, "--json", "--dim", "n=5")
    assert json.loads(capsys.readouterr().out)["inputs"][0]["shape"] == [5, 64]


def test_writes_reports(here, model_file):
    command("inspect", model_file(models.linear()), "--json", "r.json", "--html", "r.html")
    assert json.loads((here / "r.json").read_text())["nodes"] == 3
    assert "MatMul" in (here / "r.html").read_text()
