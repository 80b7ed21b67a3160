"""A failing example as a folder that shows the failure again: model, inputs, versions, a test."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tilewright.compiler.artifact import replacing, save_arrays

_TEST = '''"""Fails as long as the numbers are wrong:  pytest {name}"""

import json
from pathlib import Path

import tilewright

HERE = Path(__file__).parent
FACTS = json.loads((HERE / "facts.json").read_text())


def test_agrees_with_onnxruntime():
    proof = tilewright.verify(
        HERE / "{model}",
        inputs=[str(HERE / "inputs.npz")],
        target=FACTS["target"],
        shapes=FACTS["shapes"],
        options=tilewright.CompileOptions.from_dict(FACTS["options"]),
        threads=FACTS["threads"],
    )
    assert proof.passed, str(proof)
'''
TEST_NAME = "test_reproduction.py"


def write(
    folder: Path,
    model: Path,
    manifest: Mapping[str, Any],
    threads: int,
    inputs: Mapping[str, np.ndarray],
    failure: Mapping[str, Any],
) -> Path:
    """Write the reproduction to `folder`, whole or not at all; one that is there is replaced."""
    facts = {
        "target": manifest["target"]["name"],
        "shapes": manifest["shapes"],
        "options": manifest["options"],
        "threads": threads,
        "versions": manifest["versions"],
        "machine": platform.machine(),
        **{key: failure[key] for key in ("dims", "kind", "seed", "verdicts")},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir() and (folder / TEST_NAME).is_file():
        shutil.rmtree(folder)
    with replacing(folder) as temporary:
        temporary.mkdir()
        for file in (model, *_external_files(model)):
            place = temporary / file.relative_to(model.parent)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        save_arrays(temporary / "inputs.npz", dict(inputs))
        (temporary / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
        test = _TEST.format(name=TEST_NAME, model=model.name)
        (temporary / TEST_NAME).write_text(test)
    return folder


def _external_files(model: Path) -> list[Path]:
    """Files beside `model` that hold its weights."""
    proto = onnx.load(model, load_external_data=False)
    names = {
        entry.value
        for tensor in proto.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [model.parent / name for name in sorted(names)]
