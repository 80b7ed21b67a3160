"""What the child process does for `tilewright inspect MODEL.onnx`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import onnx

from tilewright.compiler.child import Emit
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise import normalise
from tilewright.compiler.importer.normalise.fold import Shape, infer_shapes
from tilewright.errors import UnsupportedModel


def inspect_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Facts about a model file as JSON values; nothing is compiled."""
    emit("start", step="load")
    model = load(job["path"])
    dims = {k: v if isinstance(v, int) else tuple(v) for k, v in job["dims"].items()}
    bounds = shapes.apply(model, job["shapes"], dims)
    facts = {
        "path": str(model.path),
        "sha256": model.sha256,
        "opset": model.opset(),
        "nodes": len(model.graph.node),
        "dims": {name: list(limits) for name, limits in bounds.items()},
    }
    emit("start", step="normalise")
    # What is refused stands in the place of the fusion report.
    with contextlib.suppress(UnsupportedModel):
        normalise(model)
    # Only now: some exporters keep weights in Constant nodes.
    weights = model.constants().values()
    known = infer_shapes(model)
    return {
        **facts,
        "normalised_nodes": len(model.graph.node),
        "parameters": sum(array.size for array in weights),
        "weight_bytes": sum(array.nbytes for array in weights),
        **interface_rows(model, known),
    }


def names_job(job: dict[str, Any], emit: Emit) -> dict[str, list[str]]:
    """What --shape and --dim may name in the model at `job["path"]`: inputs, open dimensions."""
    emit("start", step="load")
    model = load(job["path"])
    dims = shapes.apply(model, {}, {})
    return {"shapes": [value.name for value in model.inputs()], "dims": list(dims)}


def interface_rows(model: OnnxModel, known: Mapping[str, Shape]) -> dict[str, list[dict]]:
    """Inputs and outputs with the shapes that are `known`."""
    return {
        "inputs": [_row(value, known) for value in model.inputs()],
        "outputs": [_row(value, known) for value in model.graph.output],
    }


def _row(value: onnx.ValueInfoProto, known: Mapping[str, Shape]) -> dict[str, Any]:
    kind = value.type.tensor_type.elem_type
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind)) if kind else "unknown"
    shape = known.get(value.name)
    return {"name": value.name, "dtype": dtype, "shape": list(shape) if shape is not None else None}
