from __future__ import annotations

import numpy as np
import onnx
import pytest

import tilewright
from tests import models
from tilewright.errors import OutputError
from tilewright.verification import reproduction

FAILURE = {"dims": {"n": 1}, "kind": "ones", "seed": 0, "verdicts": []}


@pytest.fixture(scope="module")
def manifest():
    return tilewright.compile(models.linear("n"), check=False).manifest


def test_weights_outside_the_file_come_along(tmp_path, manifest):
    model = tmp_path / "m" / "model.onnx"
    model.parent.mkdir()
    onnx.save(
        models.linear("n"), model, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    inputs = {"x": np.ones((1, 64), np.float32)}
    folder = reproduction.write(tmp_path / "f" / "1", model, manifest, 1, inputs, FAILURE)
    assert (folder / "w.bin").read_bytes() == (model.parent / "w.bin").read_bytes()
    onnx.checker.check_model(folder / "model.onnx")
    again = reproduction.write(folder, model, manifest, 1, inputs, {**FAILURE, "seed": 5})
    assert '"seed": 5' in (again / "facts.json").read_text(), "the newer failure is kept"


def test_a_folder_of_something_else_is_left_alone(tmp_path, manifest, model_file):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError):
        reproduction.write(folder, model_file(models.linear("n")), manifest, 1, {}, FAILURE)
    assert (folder / "thesis.txt").read_text() == "years of work"
