"""Which values of a model are of a small type."""

from __future__ import annotations

import onnx
from onnx import helper

from tilewright.compiler.importer.graph import all_graphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import infer_dtypes
from tilewright.compiler.small_types import STORED

# Attributes that say the type of a result.
_SAY_TYPES = ("to", "dtype", "output_dtype")


def small_values(model: OnnxModel) -> dict[str, str]:
    """The names of the main graph's values of a small type, with the type's name."""
    if not any(_name(kind) in STORED for kind in _said(model)):
        return {}  # Inference reads the whole graph.
    dtypes = {name: dtype.name for name, dtype in infer_dtypes(model).items()}
    return {name: dtype for name, dtype in dtypes.items() if dtype in STORED}


def _said(model: OnnxModel) -> set[int]:
    """All types that the model's text names."""
    found = {helper.np_dtype_to_tensor_dtype(array.dtype) for array in model.weights.values()}
    for graph in all_graphs(model.graph):
        found |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        found |= {tensor.data_type for tensor in graph.initializer}
        for node in graph.node:
            found |= {entry.i for entry in node.attribute if entry.name in _SAY_TYPES}
            found |= {entry.t.data_type for entry in node.attribute if entry.HasField("t")}
    return found


def _name(kind: int) -> str | None:
    if kind in (0, onnx.TensorProto.STRING):
        return None
    return helper.tensor_dtype_to_np_dtype(kind).name
