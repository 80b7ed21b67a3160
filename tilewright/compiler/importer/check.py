"""What onnx's checker leaves unchecked, or says badly: names, bodies, the interface, values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import helper

from tilewright.compiler.importer.graph import all_graphs, attribute, domain_of, label, subgraphs
from tilewright.compiler.importer.model import OnnxModel, check_dtype
from tilewright.errors import ModelError, UnsupportedModel

# 2 GiB of float32. Tensors that are larger by mistake (a wrong size, a Tile or Expand) would take
# all memory, here or where the model runs.
MOST_ELEMENTS = 1 << 29


def check_elements(shape: Sequence[object], where: str) -> None:
    """Raise UnsupportedModel for a tensor that is absurdly large; open sizes count as 1."""
    sizes = [int(size) for size in shape if isinstance(size, int)]
    if math.prod(sizes) > MOST_ELEMENTS:
        raise UnsupportedModel(
            f"a tensor of shape {list(shape)}, which is {math.prod(sizes):.2g} elements",
            where=where,
            expected=f"at most {MOST_ELEMENTS}, which is 2 GiB of float32",
            hint="are the sizes right? --shape and --dim give smaller ones to open dimensions",
        )


def check_text(proto: onnx.ModelProto, where: str) -> None:
    """Raise ModelError for a name that is not text: protobuf hands it over as bytes."""
    for path, value in _text(proto):
        if isinstance(value, bytes):
            raise ModelError(
                f"{path} is not text: {value[:40]!r}",
                where=where,
                expected="UTF-8",
                hint="the file is damaged, or its exporter is at fault",
            )


def _text(message: Message, path: str = "") -> Iterator[tuple[str, str | bytes]]:
    """Every text field of a message, with the names of the fields that lead to it."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        place = f"{path}.{field.name}" if path else field.name
        for each in (value,) if isinstance(value, str | bytes | Message) else value:
            if field.type == field.TYPE_STRING:
                yield place, each
            else:
                yield from _text(each, place)


def check_model(model: OnnxModel) -> None:
    """Raise ModelError for what is not valid ONNX, UnsupportedModel for what is not for us."""
    _check_interface(model)
    try:
        onnx.checker.check_model(model.with_weight_types())
    except onnx.checker.ValidationError as error:
        message = " ".join(str(error).split())
        raise ModelError(
            f"the model is not valid ONNX: {message}",
            where=str(model.path),
            hint="export the model again; onnx.checker.check_model says the same",
        ) from error
    for graph in all_graphs(model.graph):
        for node in graph.node:
            if domain_of(node) == "" and node.op_type in _BODIES:
                _check_body(node, model.opset())
    for name, array in model.weights.items():
        if array.dtype.kind == "f" and not np.isfinite(array.sum(dtype=np.float64)):
            _refuse_non_finite(name, array)


# An .npz is a zip, whose names end at 65,535 bytes.
_LONGEST_NAME = 4096


def _check_interface(model: OnnxModel) -> None:
    """Refuse what is valid and not for us; onnx's checker calls some of it invalid."""
    sides = [("input", model.inputs()), ("output", model.graph.output)]
    for side, value in ((side, value) for side, values in sides for value in values):
        if len(value.name) > _LONGEST_NAME:
            raise UnsupportedModel(
                f"the name of an {side} has {len(value.name)} characters: {value.name[:40]!r}...",
                where=str(model.path),
                expected=f"at most {_LONGEST_NAME}: arrays are kept in files by these names",
                hint="export the model with shorter names",
            )
        kind = value.type.WhichOneof("value")
        if kind not in ("tensor_type", None):
            raise UnsupportedModel(
                f"{side} {value.name!r} is a {kind}", where=str(model.path), expected="tensors"
            )
    for value in model.inputs():
        if not value.type.tensor_type.HasField("shape"):
            raise UnsupportedModel(
                f"input {value.name!r} has no rank",
                where=str(model.path),
                expected="a shape, with names for the open dimensions",
                hint="export the model with input shapes",
            )
        if value.type.tensor_type.elem_type in onnx.TensorProto.DataType.values()[1:]:
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            check_dtype("string" if dtype.kind == "O" else str(dtype), f"input {value.name!r}")


# Their graphs, and how many inputs and outputs each has: onnx infers with what there is.
_BODIES = {
    "If": ("then_branch", "else_branch"),
    "Loop": ("body",),
    "Scan": ("body",),
}
# Before this version Scan has an input more, for the lengths of its sequences.
_SCAN_WITHOUT_BATCH = 9


def _check_body(node: onnx.NodeProto, opset: int) -> None:
    graphs = subgraphs(node)
    if len(graphs) != len(_BODIES[node.op_type]):
        _refuse(node, f"{len(graphs)} graphs", f"{' and '.join(_BODIES[node.op_type])}")
    given, made = len(node.input), len(node.output)
    for graph in graphs:
        if node.op_type == "If":
            inputs, least = 0, made
        elif node.op_type == "Loop":
            # The number of the step and the condition go in, the condition comes out.
            inputs, least = max(given, 2), 1 + max(given - 2, made)
        else:
            count = attribute(node, "num_scan_inputs", 0)
            states = given - count - (opset < _SCAN_WITHOUT_BATCH)
            if count < 1 or states < 0:
                _refuse(node, f"num_scan_inputs = {count}", f"1 to {given}, its inputs")
            inputs, least = states + count, max(states, made)
        shown = f"a graph of {len(graph.input)} inputs and {len(graph.output)} outputs"
        if len(graph.input) != inputs or len(graph.output) < least:
            _refuse(node, shown, f"{inputs} inputs and at least {least} outputs")


def _refuse(node: onnx.NodeProto, what: str, expected: str) -> None:
    raise ModelError(
        f"the node does not fit what it runs: it has {what}",
        where=f"node {label(node)}, {len(node.input)} inputs and {len(node.output)} outputs",
        expected=expected,
        hint="export the model again",
    )


def _refuse_non_finite(name: str, array: np.ndarray) -> None:
    bad = np.argwhere(np.isnan(array))
    if len(bad):
        raise ModelError(
            f"{len(bad)} of {array.size} weights are NaN",
            where=f"initialiser {name!r}, first at {bad[0].tolist()}",
            expected="finite weights (infinities are allowed)",
            hint="the training run diverged, or the file is damaged",
        )
