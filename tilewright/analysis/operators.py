"""The operators of a model file: by domain and version, who converts them, which nodes use them.

Every graph is looked at: the main one, those inside its nodes, and the model's own functions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx

from tilewright.compiler.importer.graph import all_nodes, domain_of, label, subgraphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.support import NOBODY, owner, schema_of

# What else may become of an operator, beside the words of `support`.
FUNCTION = "the model's own function"
COMPILE_TIME = "compile time"

Key = tuple[str, str]


@dataclass
class Operator:
    """One operator of a model, with its nodes by label and the place of each inside others.

    `version` is that in which ONNX last changed it, for other domains that of the operator set.
    `outputs` are the values that its nodes in the main graph give.
    """

    domain: str
    name: str
    version: int
    nodes: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    outputs: list[list[str]] = field(default_factory=list)
    is_function: bool = False

    def row(
        self, made: set[str], missing: Collection[Key], refused: set[str], opset: int
    ) -> dict[str, Any]:
        """JSON values, where `made` are all values that nodes give after normalisation.

        `missing` are the operators that have no converter then, `refused` nodes that cannot be
        compiled, by label; `opset` is the version of the operator set.
        """
        gone = sum(not made.intersection(outputs) for outputs in self.outputs)
        by = FUNCTION if self.is_function else owner(self.domain, self.name, opset)
        key = (self.domain, self.name)
        if key in missing:
            by = NOBODY
        elif by == NOBODY or gone == len(self.nodes):
            by = COMPILE_TIME
        return {
            "domain": self.domain or "ai.onnx",
            "operator": self.name,
            "version": self.version,
            "converted_by": by,
            "nodes": [node + at for node, at in zip(self.nodes, self.places, strict=True)],
            "gone": gone,
            "refused": sum(node in refused for node in self.nodes),
        }


def operators_of(model: OnnxModel) -> list[Operator]:
    """The operators of a model that has just been loaded, by domain and name."""
    functions = {(f.domain, f.name) for f in model.proto.functions}
    found: dict[Key, Operator] = {}
    for node, place, main in _places(model):
        domain, version = domain_of(node), model.opset(domain_of(node))
        key = (domain, node.op_type)
        if key not in found:
            schema = schema_of(domain, node.op_type, version)
            since = schema.since_version if schema else version
            found[key] = Operator(domain, node.op_type, since, is_function=key in functions)
        found[key].nodes.append(label(node))
        found[key].places.append(place)
        if main:
            found[key].outputs.append([name for name in node.output if name])
    return [found[key] for key in sorted(found)]


def _places(model: OnnxModel) -> Iterator[tuple[onnx.NodeProto, str, bool]]:
    """Each node, what is said of its place beside its name, and whether it is the main graph's."""
    for node in model.graph.node:
        yield node, "", True
        yield from _inside(node, "")
    for function in model.proto.functions:
        where = f" in function {function.name}"
        for node in function.node:
            yield node, where, False
            yield from _inside(node, where)


def _inside(node: onnx.NodeProto, where: str) -> Iterator[tuple[onnx.NodeProto, str, bool]]:
    for graph in subgraphs(node):
        for child in all_nodes(graph):
            yield child, f" in {label(node)}{where}", False


def made_by(model: OnnxModel) -> set[str]:
    """Every value that a node of the model gives, in any graph."""
    return {name for node in all_nodes(model.graph) for name in node.output if name}
