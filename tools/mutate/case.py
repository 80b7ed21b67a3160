"""A model on its way to becoming a mutant: the graph, the files beside it, or its bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import onnx

FILE = "model.onnx"


@dataclass
class Case:
    """One model. `data`, once set, is the file as it is; until then `model` is."""

    model: onnx.ModelProto
    files: dict[str, bytes] = field(default_factory=dict)
    data: bytes | None = None

    @property
    def graph(self) -> onnx.GraphProto:
        """The main graph."""
        return self.model.graph

    def add_output(self, name: str, kind: int = onnx.TensorProto.FLOAT, like: str = "") -> None:
        """Make `name` an output, of the rank of the output `like` or of what can be inferred.

        Without a shape onnx's checker would refuse the model before anything else.
        """
        if like:
            known = {value.name: value for value in self.graph.output}
        else:
            self.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
            try:
                graph = onnx.shape_inference.infer_shapes(self.model).graph
                known = {value.name: value for value in (*graph.value_info, *graph.output)}
            except onnx.shape_inference.InferenceError:
                known = {}
            del self.graph.output[-1]
        source = known.get(like or name, onnx.ValueInfoProto()).type.tensor_type
        rank = len(source.shape.dim) if source.HasField("shape") else 1
        shape = [f"{name}_{axis}" for axis in range(rank)]
        kind = source.elem_type or kind
        self.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))

    def write(self, folder: Path) -> Path:
        """The files of the case in `folder`; the path of the model among them."""
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        path = folder / FILE
        path.write_bytes(self.model.SerializeToString() if self.data is None else self.data)
        return path


Mutate = Callable[[Case, random.Random], "bool | None"]


@dataclass(frozen=True)
class Mutation:
    """One way to damage a model: a name, why a file might look so, and how.

    `mutate` changes a Case in place; False says that there is nothing in it to damage.
    """

    name: str
    why: str
    mutate: Mutate


def all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of `graph` and of all graphs inside them."""
    found = []
    for node in graph.node:
        found.append(node)
        for entry in node.attribute:
            for inner in [entry.g] if entry.HasField("g") else entry.graphs:
                found += all_nodes(inner)
    return found


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Call the tensor `old` of the main graph `new`, wherever it is read."""
    for node in all_nodes(graph):
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in [*graph.input, *graph.output, *graph.initializer, *graph.value_info]:
        if value.name == old:
            value.name = new


def tensors(graph: onnx.GraphProto) -> list[str]:
    """Names of everything the main graph's nodes make."""
    return [name for node in graph.node for name in node.output if name]
