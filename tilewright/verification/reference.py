"""The yardstick: a model evaluated in double precision by onnx's own reference implementation.

Both engines of a verification compute in the model's float types and err; which of them errs more
is only seen beside a third result that is nearer to the truth. `onnx.reference.ReferenceEvaluator`
is numpy, node by node, and keeps to the types it is given: a model whose float16, bfloat16 and
float32 tensors are made float64 is evaluated with 53 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from tilewright.compiler.importer.graph import all_graphs, attribute
from tilewright.compiler.importer.model import OnnxModel
from tilewright.verification.budget import reduction_length
from tilewright.verification.reference_loops import Loop, Scan
from tilewright.verification.reference_ops import OPERATORS

# Smaller types keep theirs: a cast to float8 is part of what the model computes.
_WIDENED = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Attributes of the standard's operators that name the type of a result.
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype", "softmax_precision")
# Inputs of float types that say how large a result is, by operator.
_SIZES = {"Resize": (1, 2), "Upsample": (1,), "Range": (0, 1, 2)}
# Operators that add up products, and round each sum between.
_RECURRENT = ("GRU", "LSTM", "RNN")
_SUMS = ("Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", *_RECURRENT)


class NoReference(Exception):
    """The model cannot be evaluated in double precision; says why."""


class DoubleReference:
    """Evaluates `model`, whose inputs are fixed or open, in float64.

    `model` is one that `load` gave; it is not changed. Raises NoReference when the model has an
    operator without a reference implementation.
    """

    def __init__(self, model: OnnxModel) -> None:
        proto = onnx.ModelProto()
        proto.CopyFrom(model.proto)
        _widen(proto)
        self._weights = {name: _wide(array) for name, array in model.weights.items()}
        try:
            self._evaluator = ReferenceEvaluator(proto, new_ops=[*OPERATORS, Loop, Scan])
        except Exception as error:
            raise NoReference(" ".join(str(error).split())[:200]) from error
        self._nodes = self._evaluator.rt_nodes_
        self._exact = _exact(proto.graph, self._weights)

    def __call__(
        self, inputs: Mapping[str, np.ndarray], unit: float = 0.0, seed: int = 0
    ) -> dict[str, np.ndarray]:
        """Every tensor of the main graph by name; floats are float64.

        With `unit`, every element of the inputs and of each result that depends on them is off by
        that share of itself, up or down as `seed` says, as if it had been rounded to a smaller
        type. Not so what says how large a result is.

        Raises NoReference when an operator refuses its input.
        """
        feed = {name: _wide(array) for name, array in inputs.items()}
        nodes = self._nodes
        if unit:
            rng = np.random.default_rng(seed)
            feed = {
                name: array if name in self._exact else _moved(array, unit, rng)
                for name, array in feed.items()
            }
            nodes = [
                node if self._exact & set(node.output) else _Moved(node, unit, rng)
                for node in nodes
            ]
        self._evaluator.rt_nodes_ = nodes
        try:
            with np.errstate(all="ignore"):
                return self._evaluator.run(None, {**self._weights, **feed}, intermediate=True)
        except Exception as error:
            raise NoReference(" ".join(str(error).split())[:200]) from error


class _Moved:
    """A node of the reference whose results are off by a share of themselves.

    So are the sums on the way to them. Of K terms of size t with random signs, the sum of the first
    k is about sqrt(k) * t, and rounding it errs by half a unit of that, so that all errors together
    come to unit * K * t / sqrt(8): as if both factors of each term had been off by
    unit * sqrt(K) / 4 (Higham, section 2.8: rounding errors as independent random numbers).
    """

    def __init__(self, node: Any, unit: float, rng: np.random.Generator) -> None:
        self._node, self._unit, self._rng = node, unit, rng

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    def run(self, *inputs: Any, **how: Any) -> tuple:
        """What the node gives, moved."""
        if self._node.op_type in _SUMS:
            unit = self._unit * math.sqrt(_terms(self._node.onnx_node, inputs)) / 4
            inputs = tuple(_moved(value, unit, self._rng) for value in inputs)
        results = self._node.run(*inputs, **how)
        return tuple(_moved(value, self._unit, self._rng) for value in results)


def _terms(node: onnx.NodeProto, inputs: Iterable[Any]) -> int:
    """K of one sum of a node that sums."""
    shapes = {name: list(np.shape(value)) for name, value in zip(node.input, inputs, strict=True)}
    steps = shapes[node.input[0]][0] if node.op_type in _RECURRENT else 1
    return reduction_length(node, shapes) // max(1, steps)


def _exact(graph: onnx.GraphProto, weights: Iterable[str]) -> set[str]:
    """What no rounding moves: constants (a square of -1 has an exponent of 2), and scales that say
    how large a result is.
    """
    found = {"", *weights, *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        # A branch or a loop may read what is not among its inputs.
        alone = not any(entry.HasField("g") for entry in node.attribute)
        if alone and found.issuperset(node.input):
            found.update(node.output)
    for node in graph.node:
        places = _SIZES.get(node.op_type, ())
        found.update(name for place, name in enumerate(node.input) if place in places)
    return found


def _moved(value: Any, unit: float, rng: np.random.Generator) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        return value
    return value * (1 + unit * rng.choice([-1, 1], value.shape))


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.name in _NAMES else array


_NAMES = tuple(onnx.helper.tensor_dtype_to_np_dtype(kind).name for kind in _WIDENED)


def _widen(proto: onnx.ModelProto) -> None:
    """Make every float16, bfloat16 and float32 in `proto` a float64, in place."""
    for graph in all_graphs(proto.graph):
        _widen_tensors(graph.initializer)
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type
            kind.elem_type = _widened(kind.elem_type)
        _widen_nodes(graph.node)
    for function in proto.functions:
        _widen_nodes(function.node)


def _widen_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for entry in node.attribute:
            if entry.HasField("t"):
                _widen_tensors([entry.t])
            elif entry.name in _TYPE_ATTRIBUTES and entry.type == onnx.AttributeProto.INT:
                entry.i = _widened(entry.i)
        if node.op_type == "Constant":
            _widen_constant(node)


def _widen_constant(node: onnx.NodeProto) -> None:
    """`value_float` and `value_floats` are float32 whatever they hold."""
    for name in ("value_float", "value_floats"):
        value = attribute(node, name)
        if value is not None:
            tensor = numpy_helper.from_array(np.asarray(value, np.float64))
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _widen_tensors(tensors: Iterable[onnx.TensorProto]) -> None:
    for tensor in tensors:
        if tensor.data_type in _WIDENED:
            wide = _wide(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _widened(kind: int) -> int:
    return TensorProto.DOUBLE if kind in _WIDENED else kind
