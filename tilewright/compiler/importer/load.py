"""Read an ONNX file that nobody vouches for, check it, and take its weights out."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from tilewright.compiler.artifact import sha256_of
from tilewright.compiler.importer import external_data
from tilewright.compiler.importer.check import check_model, check_text
from tilewright.compiler.importer.graph import all_graphs, label
from tilewright.compiler.importer.model import INLINE_BYTES, OnnxModel
from tilewright.compiler.importer.torch_program import as_onnx
from tilewright.errors import ModelError, UnsupportedModel

# Limits of what the installed onnx understands are asked of onnx itself; this one is ours.
OLDEST_IR_VERSION = 3


def load(path: Path | str) -> OnnxModel:
    """Read and check the model at `path`: an ONNX file, or a program of PyTorch's.

    Raises ModelError for what is not a valid model and UnsupportedModel for a valid one
    that reaches past what is understood here.
    """
    path = Path(path)
    file = as_onnx(path)
    data = _read_bytes(file)
    proto = _parse(data, path)
    check_text(proto, str(path))
    _check_header(proto, path)
    _check_references(proto)
    digest = hashlib.sha256(data)
    del data
    model = OnnxModel(path=path, sha256="", proto=proto)
    _take_out_weights(model, file.parent)
    for name in sorted(model.weights):
        if isinstance(model.weights[name], np.memmap):
            digest.update(np.ascontiguousarray(model.weights[name]))
    # A program is the same model whatever its export looks like.
    model.sha256 = digest.hexdigest() if file == path else sha256_of(path)
    check_model(model)
    _keep_true_inputs(model)
    return model


def _read_bytes(path: Path) -> bytes:
    hint = None
    if not path.exists():
        others = sorted(p.name for p in path.parent.glob("*.onnx")) if path.parent.is_dir() else []
        if others:
            hint = f"in that folder: {', '.join(others[:5])}"
        raise ModelError("there is no such file", where=str(path), hint=hint)
    if not path.is_file():
        raise ModelError("this is not a file", where=str(path), expected="an .onnx file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read the file: {error.strerror}", where=str(path)) from error
    if not data:
        raise ModelError("the file is empty", where=str(path), expected="an ONNX model")
    return data


def _parse(data: bytes, path: Path) -> onnx.ModelProto:
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        if "MaxDepth" in str(error):
            raise UnsupportedModel(
                "graphs are nested too deeply to be read",
                where=str(path),
                expected="at most about 30 branches and loops inside each other",
                hint="write a chain of branches one after the other",
            ) from error
        raise ModelError(
            "the file is not an ONNX model, or it is truncated",
            where=str(path),
            expected="a serialised onnx.ModelProto",
            hint="if it was downloaded, compare its size with the original",
        ) from error
    # Short or foreign bytes can parse as an empty message.
    if not proto.ir_version and not proto.graph.node:
        raise ModelError(
            "the file is not an ONNX model",
            where=str(path),
            expected="a serialised onnx.ModelProto",
        )
    return proto


def _check_header(proto: onnx.ModelProto, path: Path) -> None:
    newest = onnx.IR_VERSION
    if not OLDEST_IR_VERSION <= proto.ir_version <= newest:
        raise UnsupportedModel(
            f"ONNX IR version {proto.ir_version}",
            where=str(path),
            expected=f"{OLDEST_IR_VERSION} to {newest}",
            hint="export the model again with a current exporter",
        )
    newest_opset = onnx.defs.onnx_opset_version()
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= newest_opset:
            raise UnsupportedModel(
                f"operator set version {entry.version}",
                where=str(path),
                expected=f"1 to {newest_opset}",
                hint="export the model with an older opset, or update onnx",
            )
    if not proto.graph.node:
        raise ModelError("the graph has no nodes", where=str(path), expected="at least one")
    if not proto.graph.output:
        raise ModelError("the graph has no outputs", where=str(path), expected="at least one")


def _check_references(proto: onnx.ModelProto) -> None:
    for graph in all_graphs(proto.graph):
        for node in graph.node:
            names = [entry.name for entry in node.attribute if entry.ref_attr_name]
            if names:
                raise ModelError(
                    f"attribute {names[0]!r} stands for one of a function's",
                    where=label(node),
                    expected="a value: the node is in no function",
                )


def _take_out_weights(model: OnnxModel, folder: Path) -> None:
    for graph in all_graphs(model.graph):
        if graph.sparse_initializer:
            raise UnsupportedModel("sparse initialisers", where=f"graph {graph.name!r}")
        kept = []
        for tensor in graph.initializer:
            array = _values(tensor, folder)
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                file = external_data.location(tensor)
                model.external[file] = model.external.get(file, 0) + array.nbytes
            if graph is model.graph and array.nbytes > INLINE_BYTES:
                model.weights[tensor.name] = array
            else:
                kept.append(
                    numpy_helper.from_array(np.asarray(array, order="C"), tensor.name)
                    if tensor.data_location == onnx.TensorProto.EXTERNAL
                    else tensor
                )
        kept = [onnx.TensorProto.FromString(t.SerializeToString()) for t in kept]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        for node in graph.node:
            for entry in node.attribute:
                if entry.t.data_location == onnx.TensorProto.EXTERNAL:
                    raise UnsupportedModel(
                        "a constant inside a node keeps its data outside the file",
                        where=f"node {label(node)}, attribute {entry.name!r}",
                        expected="external data for initialisers only",
                    )


def _values(tensor: onnx.TensorProto, folder: Path) -> np.ndarray:
    if not tensor.name:
        raise ModelError("an initialiser has no name", expected="a name for every tensor")
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"shape {list(tensor.dims)}", where=f"initialiser {tensor.name!r}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return external_data.read(tensor, folder)
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"the values do not fit their type and shape: {error}",
            where=f"initialiser {tensor.name!r}",
            expected=f"{list(tensor.dims)} of data type {tensor.data_type}",
            hint="the file is damaged, or its exporter is at fault",
        ) from error


# From this version of the IR on, initialisers need not be listed among the inputs.
_INITIALISERS_ALONE = 4


def _keep_true_inputs(model: OnnxModel) -> None:
    """Old files list initialisers as inputs too, which folding would leave to be given."""
    inputs = model.inputs()
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.proto.ir_version = max(model.proto.ir_version, _INITIALISERS_ALONE)
