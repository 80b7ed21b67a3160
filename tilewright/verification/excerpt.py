"""Part of an ONNX model as a model of its own, with the values that flow into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tilewright.compiler.importer.graph import reads
from tilewright.compiler.importer.model import OnnxModel
from tilewright.verification.divergence import Graph

# How often an excerpt grows before the whole model is all that fails.
WIDENINGS = 4


@dataclass(frozen=True)
class Excerpt:
    """A model, its inputs, and what its outputs are in double precision."""

    proto: onnx.ModelProto
    inputs: Mapping[str, np.ndarray]
    truth: Mapping[str, np.ndarray]


class Excerpts:
    """Cuts excerpts out of `model`, of whose tensors `truth` has the values on one example.

    `graph` is that of `model`; it is read when the object is made, and may change later.
    """

    def __init__(self, model: OnnxModel, graph: Graph, truth: Mapping[str, np.ndarray]) -> None:
        self._graph, self._truth = graph, truth
        self._constants = model.constants()
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(model.proto)
        shown = onnx.shape_inference.infer_shapes(model.with_weight_types())
        values = (*shown.graph.value_info, *shown.graph.input, *shown.graph.output)
        self._kinds = {value.name: value.type.tensor_type.elem_type for value in values}

    def around(
        self,
        nodes: Sequence[onnx.NodeProto],
        cut: Sequence[str],
        tensor: str,
        group: Sequence[onnx.NodeProto] = (),
    ) -> Iterator[Excerpt]:
        """Excerpts from small to large: `group`, `nodes`, which compute `tensor` from `cut`; more.

        `group` are some of `nodes`, the last of them among them.
        """
        if group and len(group) < len(nodes):
            read = set().union(*(reads(node) for node in group)) & self._graph.varying
            made = {name for node in group for name in node.output}
            yield self.of(group, sorted(read - made), [tensor])
        inside, known, ends = list(nodes), set(cut), {tensor}
        yield self.of(inside, sorted(known), sorted(ends))
        for step in range(WIDENINGS):
            before = len(inside)
            if step % 2 == 0:
                ends = self._next(ends)
            else:
                known = self._previous(known)
            inside, known = self._between(known, ends)
            if len(inside) > before:
                yield self.of(inside, sorted(known), sorted(ends))

    def _next(self, ends: set[str]) -> set[str]:
        """What the readers of `ends` make, and those of them that nothing reads."""
        readers = [node for node in self._graph.nodes if reads(node) & ends]
        read = set().union(*(reads(node) for node in readers))
        return {name for node in readers for name in node.output if name} | (ends - read)

    def _previous(self, known: set[str]) -> set[str]:
        """What the makers of `known` read."""
        varying, producer = self._graph.varying, self._graph.producer
        behind = {
            name for end in known if end in producer for name in reads(producer[end]) & varying
        }
        return behind | {name for name in known if name not in producer}

    def _between(self, known: set[str], ends: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        inside: set[int] = set()
        cut: set[str] = set()
        for end in ends:
            found, nodes = self._graph.behind(end, known)
            inside |= {id(node) for node in nodes}
            cut |= found
        made = [node for node in self._graph.nodes if id(node) in inside]
        return made, cut - {name for node in made for name in node.output}

    def of(
        self, nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str]
    ) -> Excerpt:
        """`nodes` as a model from `inputs` to `outputs`; all else they read is a constant."""
        made = {name for node in nodes for name in node.output}
        needed = sorted({name for node in nodes for name in reads(node)} - made - {*inputs})
        arrays = {name: self._cast(name) for name in inputs}
        constants = {
            name: self._constants[name] if name in self._constants else self._cast(name)
            for name in needed
        }
        graph = helper.make_graph(
            list(nodes),
            "excerpt",
            [self._value(name, array.shape) for name, array in arrays.items()],
            [self._value(name, np.shape(self._truth[name])) for name in outputs],
            [numpy_helper.from_array(np.asarray(c, order="C"), n) for n, c in constants.items()],
        )
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        proto.graph.CopyFrom(graph)
        return Excerpt(proto, arrays, {name: np.asarray(self._truth[name]) for name in outputs})

    def _value(self, name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, self._kind(name), shape)

    def _kind(self, name: str) -> int:
        known = self._kinds.get(name)
        return known or helper.np_dtype_to_tensor_dtype(np.asarray(self._truth[name]).dtype)

    def _cast(self, name: str) -> np.ndarray:
        dtype = helper.tensor_dtype_to_np_dtype(self._kind(name))
        return np.asarray(self._truth[name]).astype(dtype)
