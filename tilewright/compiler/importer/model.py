"""A loaded model: a small ONNX graph, and its weights beside it as arrays.

Weights leave the protobuf as soon as it is read: every C++ pass of `onnx` copies the
whole message several times (2.9 GB for a 370 MB model), and none needs the values. Where
`onnx` must see a type, `with_weight_types` shows weights as graph inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tilewright.compiler.small_types import STORED
from tilewright.errors import UnsupportedModel

# Small constants stay in the graph: shape inference reads their values (axes, pads, shapes).
INLINE_BYTES = 4096

# Types of inputs and outputs: those that numpy hands over by DLPack, and those that others stand
# for. Strings are neither.
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
    *STORED,
)


@dataclass
class OnnxModel:
    """A checked model. `graph` has no initialiser above INLINE_BYTES; `weights` has those.

    `external` has the files beside the model that tensors come from, with how many bytes of each.
    """

    path: Path
    sha256: str
    proto: onnx.ModelProto
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    external: dict[str, int] = field(default_factory=dict)
    # Nodes that were computed at compile time, in order, and the shapes of what they read and made:
    # their rounding errors are in the constants, and in what the reference computes.
    folded: list[onnx.NodeProto] = field(default_factory=list)
    folded_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # K of results (verification/budget.py), where the graph does not tell any more.
    terms: dict[str, int] = field(default_factory=dict)

    @property
    def graph(self) -> onnx.GraphProto:
        """The main graph."""
        return self.proto.graph

    def opset(self, domain: str = "") -> int:
        """Version of an operator set the model imports; 1 when it names none."""
        for entry in self.proto.opset_import:
            if entry.domain == domain or (domain == "" and entry.domain == "ai.onnx"):
                return entry.version
        return 1

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The inputs a caller gives: graph inputs that no initialiser fills."""
        filled = {tensor.name for tensor in self.graph.initializer} | set(self.weights)
        return [value for value in self.graph.input if value.name not in filled]

    def constants(self) -> dict[str, np.ndarray]:
        """Every initialiser of the main graph by name, small and large."""
        small = {t.name: onnx.numpy_helper.to_array(t) for t in self.graph.initializer}
        return {**small, **self.weights}

    def add_constant(self, name: str, array: np.ndarray) -> None:
        """A new initialiser: in the graph when it is small, else beside it."""
        if array.nbytes > INLINE_BYTES:
            self.weights[name] = array
        else:
            tensor = onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
            self.graph.initializer.append(tensor)

    def with_weight_types(self) -> onnx.ModelProto:
        """A copy without weight values in which each weight is a typed graph input."""
        shown = onnx.ModelProto()
        shown.CopyFrom(self.proto)
        listed = {value.name for value in shown.graph.input}
        for name, array in self.weights.items():
            if name not in listed:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                shown.graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
        return shown


def check_dtype(dtype: str, where: str) -> None:
    """Raise UnsupportedModel for a type that cannot cross from numpy to a kernel."""
    if dtype not in DTYPES:
        raise UnsupportedModel(
            f"tensors of type {dtype}",
            where=where,
            expected=f"one of: {', '.join(DTYPES)}",
            hint="export the model in float32",
        )
