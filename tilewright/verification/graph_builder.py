"""Writes an ONNX graph node by node; each value's type and shape are those that onnx infers."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TypeProto, helper, numpy_helper

Size = int | str
OPSET = 20
# What an open dimension counts as where a tensor's elements are counted.
TYPICAL = 8
_IR_VERSION = 9


@dataclass(frozen=True)
class Value:
    """A tensor of the graph.

    `exact` says that it holds numbers of the inputs, rearranged or selected, without rounding: only
    these may be compared, rounded or ranked, for there the last bit decides. `degree` is the power
    of the inputs that it grows with, 0 where it is bounded.
    """

    name: str
    dtype: str
    shape: tuple[Size, ...]
    exact: bool = False
    degree: int = 1

    @property
    def rank(self) -> int:
        """How many dimensions it has."""
        return len(self.shape)

    @property
    def floats(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.dtype.startswith("float")

    @property
    def elements(self) -> int:
        """How many elements, where open dimensions are of a typical size."""
        return elements(self.shape)

    def fixed(self, axis: int) -> bool:
        """Whether the size of `axis` is a number."""
        return isinstance(self.shape[axis], int)


def elements(shape: tuple[Size, ...]) -> int:
    """The elements of a tensor of `shape`, where open dimensions are of a typical size."""
    return int(np.prod([TYPICAL if isinstance(size, str) else size for size in shape], initial=1))


class Builder:
    """A graph under construction. Weights are drawn from `seed`."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[Value] = []
        self._constants: dict[str, np.ndarray] = {}
        self._open = 0
        # What an operator may take: inputs and results, not constants.
        self.values: list[Value] = []

    def __len__(self) -> int:
        return len(self._nodes)

    def input(self, shape: tuple[Size, ...], dtype: str = "float32") -> Value:
        """A new input of the graph."""
        degree = 1 if dtype.startswith("float") else 0
        value = Value(f"x{len(self._inputs)}", dtype, shape, exact=True, degree=degree)
        self._inputs.append(value)
        self.values.append(value)
        return value

    def constant(self, array: object, dtype: str) -> Value:
        """An initializer with the given numbers."""
        name = f"c{len(self._constants)}"
        self._constants[name] = np.asarray(array).astype(dtype)
        return Value(name, dtype, self._constants[name].shape, exact=True, degree=0)

    def ints(self, *numbers: int) -> Value:
        """A vector of int64: a shape, axes, positions."""
        return self.constant(np.asarray(numbers, np.int64), "int64")

    def weight(self, dtype: str, *shape: int, terms: int = 1, near: float | None = None) -> Value:
        """Normal numbers by the square root of `terms`; or positive ones around `near`."""
        drawn = self._rng.standard_normal(shape) / np.sqrt(max(1, terms))
        if near is not None:
            drawn = near * (1 + 0.3 * np.tanh(drawn))
        return self.constant(drawn, dtype)

    def add(
        self,
        op: str,
        *inputs: Value | None,
        outputs: int = 1,
        keep: int = 0,
        exact: bool = False,
        degree: int | None = None,
        **attributes: object,
    ) -> Value:
        """A node; returns its output number `keep`, and remembers all that have a type.

        `degree` is the largest of the inputs' unless it is given.
        """
        made = [f"v{len(self._nodes)}"]
        made += [f"v{len(self._nodes)}_{number}" for number in range(1, outputs)]
        given = [value.name if value is not None else "" for value in inputs]
        node = helper.make_node(op, given, made, name=f"n{len(self._nodes)}", **attributes)
        types = self._inferred(node, [value for value in inputs if value is not None])
        if degree is None:
            degree = max((value.degree for value in inputs if value is not None), default=0)
        self._nodes.append(node)
        results = [
            Value(name, *self._read(types[name]), exact=exact, degree=degree) for name in made
        ]
        self.values += results
        return results[keep]

    def _inferred(self, node: onnx.NodeProto, inputs: list[Value]) -> dict[str, TypeProto]:
        """What onnx says of the results; raises InferenceError where the node is illegal."""
        known = {
            value.name: numpy_helper.from_array(self._constants[value.name])
            for value in inputs
            if value.name in self._constants
        }
        return onnx.shape_inference.infer_node_outputs(
            _schema(node.op_type),
            node,
            {value.name: _type(value) for value in inputs},
            known,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
        )

    def _read(self, kind: TypeProto) -> tuple[str, tuple[Size, ...]]:
        """Type and shape; a size that onnx cannot tell is one of its own."""
        shape: list[Size] = []
        for size in kind.tensor_type.shape.dim:
            if size.HasField("dim_value"):
                shape.append(size.dim_value)
            elif size.dim_param:
                shape.append(size.dim_param)
            else:
                self._open += 1
                shape.append(f"computed{self._open}")
        return _name(kind.tensor_type.elem_type), tuple(shape)

    def model(self, outputs: list[Value]) -> onnx.ModelProto:
        """The graph with these outputs; constants and inputs that no node takes are left out."""
        taken = {name for node in self._nodes for name in node.input}
        graph = helper.make_graph(
            self._nodes,
            "drawn",
            [_info(value) for value in self._inputs if value.name in taken],
            [_info(value) for value in outputs],
            [numpy_helper.from_array(a, n) for n, a in self._constants.items() if n in taken],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def readers(self) -> set[str]:
        """Names of the values that some node takes."""
        return {name for node in self._nodes for name in node.input}

    def is_input(self, value: Value) -> bool:
        """Whether `value` is an input of the graph."""
        return value in self._inputs


@functools.cache
def _schema(op: str) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(op, OPSET)


def _name(kind: int) -> str:
    return helper.tensor_dtype_to_np_dtype(kind).name


def _type(value: Value) -> TypeProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_type_proto(kind, value.shape)


def _info(value: Value) -> onnx.ValueInfoProto:
    # What a computed size is called says nothing to whom the model is given.
    shape = [None if str(size).startswith("computed") else size for size in value.shape]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(value.name, kind, shape)
