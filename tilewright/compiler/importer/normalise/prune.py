"""Remove nodes and weights that no output needs."""

from __future__ import annotations

from tilewright.compiler.importer.graph import reads
from tilewright.compiler.importer.model import OnnxModel


def prune(model: OnnxModel) -> None:
    """Keep what the outputs read, directly or not. Inputs stay: they are the interface."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed |= reads(node)
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    tensors = [t for t in graph.initializer if t.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    model.weights = {name: array for name, array in model.weights.items() if name in needed}
