"""Operators of very many operands become a tree of narrower ones.

Before   y = Concat(x0, ..., x2999)
After    y = Concat(Concat(x0, ..., x63), ..., Concat(x2944, ..., x2999))

The kernel of a Concat is as many conditions inside each other as it has operands; from some
thousands on LLVM runs out of stack. A Sum is added in another order, which its error budget
covers.
"""

from __future__ import annotations

import onnx

from tilewright.compiler.importer.graph import domain_of
from tilewright.compiler.importer.model import OnnxModel

WIDEST = 64
_ASSOCIATIVE = ("Concat", "Max", "Min", "Sum")


def split_wide(model: OnnxModel) -> None:
    """Rewrite nodes of the main graph until none has more than WIDEST operands."""
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if domain_of(node) == "" and node.op_type in _ASSOCIATIVE:
            if len(node.input) > WIDEST and node.op_type == "Sum":
                # The reference adds them one after the other: where they are alike, its rounding
                # errors do not cancel, but grow with their number, which is K = number squared.
                model.terms[node.output[0]] = len(node.input) ** 2
            nodes += _narrower(node)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _narrower(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes below `node`, which afterwards reads their results."""
    made: list[onnx.NodeProto] = []
    while len(node.input) > WIDEST:
        operands = list(node.input)
        level = []
        for start in range(0, len(operands), WIDEST):
            part = onnx.NodeProto()
            part.CopyFrom(node)
            part.input[:] = operands[start : start + WIDEST]
            part.name = f"{node.name or node.output[0]}/part{len(made)}"
            part.output[:] = [f"{node.output[0]}/part{len(made)}"]
            made.append(part)
            level.append(part.output[0])
        node.input[:] = level
    return made
