"""Small questions about ONNX graphs that several passes ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx

# What draws random numbers: another result at every run. Dropout does in training mode.
RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """`graph` and every graph inside its nodes, outermost first."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node of `graph` and of the graphs inside its nodes."""
    for inner in all_graphs(graph):
        yield from inner.node


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs a node carries as attributes: branches and loop bodies."""
    return [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]


def reads(node: onnx.NodeProto) -> set[str]:
    """Every tensor a node needs, those its subgraphs take from outside included."""
    names = {name for name in node.input if name}
    for inner in subgraphs(node):
        made = {value.name for value in inner.input} | {t.name for t in inner.initializer}
        for child in inner.node:
            names |= reads(child) - made
            made |= set(child.output)
        names |= {value.name for value in inner.output} - made
    return names


def random_tensors(graph: onnx.GraphProto, constants: Mapping[str, np.ndarray]) -> set[str]:
    """The tensors of `graph` that depend on random numbers; its nodes are in order."""
    found: set[str] = set()
    for node in graph.node:
        inside = [child for inner in subgraphs(node) for child in all_nodes(inner)]
        drawn = any(is_random(one, constants) for one in (node, *inside))
        if drawn or reads(node) & found:
            found.update(filter(None, node.output))
    return found


def is_random(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether a node draws random numbers; `constants` are those of the main graph."""
    if domain_of(node) != "":
        return False
    if node.op_type != "Dropout":
        return node.op_type in RANDOM
    training = node.input[2] if len(node.input) > 2 else ""
    return bool(training) and bool(np.any(constants.get(training, True)))


def domain_of(node: onnx.NodeProto) -> str:
    """The node's domain with the default domain spelled one way."""
    return "" if node.domain == "ai.onnx" else node.domain


def qualified(domain: str, operator: str) -> str:
    """An operator's name, after its domain unless that is ONNX's own."""
    return f"{domain}.{operator}" if domain else operator


def label(node: onnx.NodeProto) -> str:
    """How a node is called in reports and errors: its name, or its first output."""
    name = node.name or next((name for name in node.output if name), "(no name)")
    return f"{name} ({qualified(domain_of(node), node.op_type)})"


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of an attribute, or `default`."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def text(value: Any) -> Any:
    """An attribute, as text where it is some: TVM's importer hands strings over as bytes."""
    # Bytes that are no text are no word that a converter knows: it refuses them by name.
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
