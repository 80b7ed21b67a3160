"""The inputs of a model, and which values an integer input may take, read off what uses it.

Random numbers make a poor token id: they index past the table. An input that selects rows
(Gather) takes numbers below the row count, one that counts the steps of a Loop a few; one that is
compared with numbers (a sampling rate with 16000) is one of them, or 0; any other integer input
takes 0 and 1, which suits masks, segment ids and flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from tilewright.compiler.importer.graph import attribute
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import Shape, infer_shapes
from tilewright.compiler.importer.small_values import small_values

# More than a loop takes in a row without halving (`convert.repeat`).
MOST_STEPS_DRAWN = 20
_PASSES_VALUES_ON = ("Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "Expand")
# One more than what a mask or a flag may be.
_FLAG = 2
# Of a vector that an input is compared with.
_MOST_NUMBERS = 16


def input_rows(model: OnnxModel) -> list[dict[str, Any]]:
    """Name, dtype and shape of each input; `below` or `among` where its values are limited."""
    limits, small = integer_limits(model), small_values(model)
    constants = model.constants()
    rows = []
    for value in model.inputs():
        kind = value.type.tensor_type
        dtype = small.get(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name)
        shape = [dim.dim_param or dim.dim_value for dim in kind.shape.dim]
        row = {"name": value.name, "dtype": dtype, "shape": shape}
        if value.name in limits:
            row["below"] = limits[value.name]
            numbers = _compared_with(model.graph, value.name, constants)
            if row["below"] == _FLAG and max(numbers, default=0) >= _FLAG:
                row["among"] = [*sorted(numbers - {0}), 0]
        rows.append(row)
    return rows


def integer_limits(model: OnnxModel) -> dict[str, int]:
    """For each integer input, the number its values stay below (they are never negative)."""
    shapes = infer_shapes(model)
    integer = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return {
        value.name: _limit_of(model.graph, value.name, shapes) or _FLAG
        for value in model.inputs()
        if value.type.tensor_type.elem_type in integer
    }


def _limit_of(graph: onnx.GraphProto, name: str, shapes: dict[str, Shape]) -> int | None:
    """The smallest table that `name` selects from, or how often a loop runs; None for neither."""
    found = []
    for node in graph.node:
        if name not in node.input:
            continue
        if node.op_type in ("Gather", "GatherElements") and node.input[1] == name:
            table = shapes.get(node.input[0])
            rows = table[attribute(node, "axis", 0)] if table else None
            found.append(rows if isinstance(rows, int) else None)
        elif node.op_type == "Loop" and node.input[0] == name:
            found.append(MOST_STEPS_DRAWN)
        elif node.op_type in _PASSES_VALUES_ON and node.input[0] == name:
            found.append(_limit_of(graph, node.output[0], shapes))
    return min((rows for rows in found if rows), default=None)


def _compared_with(
    graph: onnx.GraphProto, name: str, constants: Mapping[str, np.ndarray]
) -> set[int]:
    """The numbers from 0 that `name` is asked whether it equals."""
    found: set[int] = set()
    for node in graph.node:
        if name not in node.input:
            continue
        if node.op_type == "Equal":
            others = (constants[other] for other in node.input if other in constants)
            found.update(int(n) for other in others for n in other.flat[:_MOST_NUMBERS] if n >= 0)
        elif node.op_type in _PASSES_VALUES_ON and node.input[0] == name:
            found |= _compared_with(graph, node.output[0], constants)
    return found
