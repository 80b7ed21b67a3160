from __future__ import annotations

import json

from tests import models
from tests.command_line import command


def test_shows_both_engines_and_the_ratio(here, model_file, capsys):
    code = command("bench", model_file(models.linear()), "-q", "--seconds", "0.1", "--threads", "1")
    out = capsys.readouterr().out
    assert code == 0 and "tilewright" in out and "onnxruntime" in out
    assert "ONNX Runtime's time / ours" in out


def test_an_artifact_alone_is_measured_alone(here, linear_library, capsys):
    assert command("bench", linear_library, "-q", "--seconds", "0.1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["engines"]) == ["tilewright"] and "ratio" not in found
