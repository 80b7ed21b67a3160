"""Compute in float32 what a model computes in float16.

Before   y = MatMul(x, w)                                                      all float16
After    y = Cast(MatMul(Cast(x, to=float32), w in float32), to=float16)

CPUs compute in float32 and convert before and after; kept in float16, each result is rounded once
more, kernels of float32 do not fit, and some functions have none. ONNX Runtime does the same on
CPUs. Inputs and outputs keep their type, a Cast to float16 still rounds. Weights of float16 take
twice the memory.

Declines where the bits count (BitCast), beside branches and loops, after which no operator may come
where sizes are open, and below opset 6, whose Cast names types by words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tilewright.compiler.importer.graph import attribute, subgraphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import infer_dtypes

_HALF, _FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
_SAY_TYPES = ("dtype", "output_dtype")


def widen_half(model: OnnxModel) -> None:
    """Leave no float16 between the inputs and the outputs of `model`, in place."""
    graph = model.graph
    declined = any(node.op_type == "BitCast" or subgraphs(node) for node in graph.node)
    if declined or model.opset() < 6 or not _has_half(model):
        return
    like = {name for name, dtype in infer_dtypes(model).items() if dtype == np.float16}
    inputs = {v.name for v in model.inputs() if v.type.tensor_type.elem_type == _HALF}
    results = [v.name for v in graph.output if v.type.tensor_type.elem_type == _HALF]
    wide = {name: f"{name}/float32" for name in (*inputs, *results)}
    model.weights = {wide.get(n, n): _widened(a) for n, a in model.weights.items()}
    model.terms = {wide.get(name, name): terms for name, terms in model.terms.items()}
    _widen(graph, wide, like)
    before = [_cast(name, wide[name], _FLOAT) for name in sorted(inputs)]
    # An output may be an input as it is.
    after = [_cast(wide[name], name, _HALF) for name in results if name not in inputs]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)


def _has_half(model: OnnxModel) -> bool:
    if any(array.dtype == np.float16 for array in model.weights.values()):
        return True
    graph = model.graph
    return (
        any(v.type.tensor_type.elem_type == _HALF for v in (*graph.input, *graph.output))
        or any(tensor.data_type == _HALF for tensor in graph.initializer)
        or any(_makes_half(node) for node in graph.node)
    )


def _makes_half(node: onnx.NodeProto) -> bool:
    value = attribute(node, "value")
    if isinstance(value, TensorProto) and value.data_type == _HALF:
        return True
    return any(attribute(node, name) == _HALF for name in ("to", *_SAY_TYPES))


def _widen(graph: onnx.GraphProto, wide: Mapping[str, str], like: set[str]) -> None:
    """All but the casts at both ends; `wide` has the new names of values."""
    for tensor in graph.initializer:
        tensor.name = wide.get(tensor.name, tensor.name)
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.elem_type == _HALF and value.name not in wide:
            kind.elem_type = _FLOAT
    nodes = []
    for node in graph.node:
        to_half = node.op_type == "Cast" and attribute(node, "to") == _HALF
        to_half |= node.op_type == "CastLike" and node.input[1] in like
        _rename(node.input, wide)
        _rename(node.output, wide)
        if to_half:
            half = f"{node.output[0]}/float16"
            nodes.append(_cast(node.input[0], half, _HALF, node.name))
            nodes.append(_cast(half, node.output[0], _FLOAT))
            continue
        for entry in node.attribute:
            if entry.HasField("t"):
                _widen_tensor(entry.t)
            elif entry.name in _SAY_TYPES and entry.i == _HALF:
                entry.i = _FLOAT
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _rename(names: Iterable[str], wide: Mapping[str, str]) -> None:
    names[:] = [wide.get(name, name) for name in names]


def _cast(source: str, result: str, to: int, name: str = "") -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name or f"{result}/Cast", to=to)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == _HALF:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array
