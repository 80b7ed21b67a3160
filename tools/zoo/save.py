"""Write a recipe as an ONNX file, and check that ONNX Runtime computes what torch computed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from tools.zoo.errors import CheckFailed
from tools.zoo.recipe import Recipe

# Of the largest value of an output. Rounding in another order gives up to 2e-5 (resnet50, 53
# convolutions deep); a wrong constant or a lost bias gives 1e-2 and more.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Saved:
    """What was written: the file's size and how far ONNX Runtime is from torch."""

    megabytes: float
    opset: int
    difference: float

    def __str__(self) -> str:
        return (
            f"{self.megabytes:7.1f} MB  opset {self.opset}  "
            f"torch and ORT differ by {self.difference:.0e} of the largest value"
        )


def save(recipe: Recipe, path: Path) -> Saved:
    """Export `recipe` to `path`, which appears only when the check has passed."""
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    expected = _run_torch(recipe)
    try:
        _export(recipe, partial)
        model = _drop_debug_text(partial)
        difference = _largest_difference(recipe, expected, _run_ort(recipe, partial))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    return Saved(path.stat().st_size / 1e6, opset, difference)


def _run_torch(recipe: Recipe) -> list[np.ndarray]:
    with torch.no_grad():
        result = recipe.module(*recipe.inputs.values())
    outputs = (result,) if isinstance(result, torch.Tensor) else result
    return [output.numpy() for output in outputs]


def _export(recipe: Recipe, path: Path) -> None:
    settings: dict[str, Any] = {}
    if recipe.exporter == "dynamo":
        settings.update(external_data=False, verbose=False)
    if recipe.dynamic_axes:
        settings.update(dynamic_axes=recipe.dynamic_axes)
    if recipe.keep_batch_norm:
        preserve = torch.onnx.TrainingMode.PRESERVE
        settings.update(training=preserve, do_constant_folding=False)
    torch.onnx.export(
        recipe.module,
        tuple(recipe.inputs.values()),
        str(path),
        dynamo=recipe.exporter == "dynamo",
        opset_version=recipe.opset,
        input_names=list(recipe.inputs),
        output_names=list(recipe.outputs),
        **settings,
    )


def _drop_debug_text(path: Path) -> onnx.ModelProto:
    """Remove stack traces and source lines: they hold the paths of the machine that exported."""
    model = onnx.load(path)
    graph = model.graph
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del value.metadata_props[:]
    onnx.save(model, path)
    return model


def _run_ort(recipe: Recipe, path: Path) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {name: tensor.numpy() for name, tensor in recipe.inputs.items()}
    return session.run(list(recipe.outputs), feeds)


def _largest_difference(
    recipe: Recipe, expected: list[np.ndarray], computed: list[np.ndarray]
) -> float:
    worst = 0.0
    for name, want, got in zip(recipe.outputs, expected, computed, strict=True):
        if want.shape != got.shape:
            raise CheckFailed(f"output {name}: torch gives shape {want.shape}, ORT {got.shape}")
        difference = float(np.abs(got - want).max() / np.abs(want).max())
        # Written so that NaN fails too.
        if not difference <= TOLERANCE:
            raise CheckFailed(
                f"output {name}: torch and ORT differ by {difference:.1e} of the largest value, "
                f"want {TOLERANCE:.0e} at most",
                hint="the exporter changed the numbers: compare the versions with requirements.txt",
            )
        worst = max(worst, difference)
    return worst
