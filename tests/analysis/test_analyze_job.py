from __future__ import annotations

import json

import pytest

from tests import models
from tilewright.analysis.analyze_job import LAST_STAGE, analyze_job
from tilewright.compiler import pipeline
from tilewright.options import CompileOptions
from tilewright.targets import resolve


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_runs_the_stages_before_code_generation(level, model_file, tmp_path):
    options = CompileOptions(opt_level=level)
    job = {
        "path": str(model_file(models.linear("n"))),
        "target": resolve("x86-64-avx2").to_dict(),
        "options": options.to_dict(),
        "shapes": {"x": [3, 64]},
        "folder": "unused",
        "fusions": None,
    }
    steps = []
    report = analyze_job(json.loads(json.dumps(job)), lambda _, step: steps.append(step))
    names = [stage.name for stage in pipeline.chosen_stages(options)]
    assert steps == names[: names.index(LAST_STAGE) + 1]
    assert report["model"] == "model.onnx" and report["target"] == "x86-64-avx2"
    assert report["coverage"]["operators"] == (1.0 if level >= 2 else 0.0)
    assert report["flops"] == 3 * 32 * (2 * 64 + 2)
