"""Constants of branches and loop bodies move into the main graph, where they are folded.

Before   y = If(c; then: p = Constant [0, 64, 0, 64]; q = Cast(p); Pad(x, q), else: ...)
After    q = [0, 64, 0, 64];  y = If(c; then: Pad(x, q), else: ...)
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from tilewright.compiler.importer.graph import all_graphs, all_nodes, subgraphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import NEVER_FOLDED, fold_constants


def hoist_constants(model: OnnxModel) -> None:
    """Move nodes that read constants alone out of the graphs of If, Loop and Scan."""
    hoisting = _Hoisting(model)
    for node in model.graph.node:
        for graph in subgraphs(node):
            hoisting.empty(graph)
    if hoisting.moved:
        # What they read is constant: they may come before everything.
        nodes = [*hoisting.moved, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        fold_constants(model)


class _Hoisting:
    def __init__(self, model: OnnxModel) -> None:
        self._model, self._known = model, set(model.constants())
        self._taken = {name for node in all_nodes(model.graph) for name in node.output}
        self._taken |= self._known | {value.name for value in model.graph.input}
        self.moved: list[onnx.NodeProto] = []

    def empty(self, graph: onnx.GraphProto) -> None:
        """Take the constants out of a graph, and of those inside its nodes."""
        names: dict[str, str] = {}
        results = {value.name for value in graph.output}
        for tensor in graph.initializer:
            if tensor.name not in results:
                names[tensor.name] = self._new(tensor.name)
                array = numpy_helper.to_array(tensor)
                self._model.add_constant(names[tensor.name], array)
        kept = [tensor for tensor in graph.initializer if tensor.name in results]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        nodes = []
        for node in graph.node:
            _rename(node, names)
            if results.intersection(node.output) or not self._is_constant(node):
                nodes.append(node)
                for inner in subgraphs(node):
                    self.empty(inner)
                continue
            for place, name in enumerate(node.output):
                if name:
                    names[name] = node.output[place] = self._new(name)
            self.moved.append(node)
        del graph.node[:]
        graph.node.extend(nodes)

    def _is_constant(self, node: onnx.NodeProto) -> bool:
        if node.op_type in NEVER_FOLDED or subgraphs(node):
            return False
        return node.op_type == "Constant" or (
            any(node.input) and all(name in self._known for name in node.input if name)
        )

    def _new(self, name: str) -> str:
        """A name for `name` in the main graph, where another branch may have it too."""
        fresh, number = name, 1
        while fresh in self._taken:
            number += 1
            fresh = f"{name}_{number}"
        self._taken.add(fresh)
        self._known.add(fresh)
        return fresh


def _rename(node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Let `node` and the graphs inside read what has moved under its new name."""
    for graph in (inner for outer in subgraphs(node) for inner in all_graphs(outer)):
        for value in graph.output:
            value.name = names.get(value.name, value.name)
        for child in graph.node:
            child.input[:] = [names.get(name, name) for name in child.input]
    node.input[:] = [names.get(name, name) for name in node.input]
