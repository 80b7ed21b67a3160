"""Sequences of tensors of which it is known what is where become those tensors.

Before   s = SplitToSequence(x);  t = SequenceInsert(s, y, 0);  z = SequenceAt(t, 2)
After    a, b, c = Split(x);  z = Identity(b)

A sequence is known where its length and all places are. What is not, stays.
Source: https://onnx.ai/onnx/operators/onnx__SplitToSequence.html and those beside it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper

from tilewright.compiler.importer.graph import attribute, domain_of
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import Shape, fold_constants, infer_shapes

# The version that gets sizes and axes as an input.
_SIZES_ARE_INPUT = 13
MOST_PARTS = 1024


def resolve_sequences(model: OnnxModel) -> None:
    """Rewrite what reads known sequences of the main graph; `prune` takes those away."""
    if not any(node.op_type in _READERS for node in model.graph.node):
        return
    rewriting = _Rewriting(model)
    for node in model.graph.node:
        rewriting.visit(node)
    del model.graph.node[:]
    model.graph.node.extend(rewriting.nodes)
    fold_constants(model)


class _Rewriting:
    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._shapes: Mapping[str, Shape] = infer_shapes(model)
        self.constants = model.constants()
        self.nodes: list[onnx.NodeProto] = []
        self.known: dict[str, list[str]] = {}

    def visit(self, node: onnx.NodeProto) -> None:
        """Keep a node that makes a sequence; put what it does in the place of one that reads it."""
        standard = domain_of(node) == ""
        if standard and node.op_type in _MAKERS:
            made = _MAKERS[node.op_type](self, node)
            if made is not None:
                self.known[node.output[0]] = made
        elif standard and node.op_type in _READERS and _READERS[node.op_type](self, node):
            return
        self.nodes.append(node)

    def add(self, operator: str, inputs: list[str], outputs: list[str], **attrs: object) -> None:
        self.nodes.append(
            helper.make_node(operator, inputs, outputs, name=f"{outputs[0]}/{operator}", **attrs)
        )

    def constant(self, name: str, value: object) -> str:
        self._model.add_constant(name, np.asarray(value, np.int64))
        return name

    def place(self, node: onnx.NodeProto, number: int, length: int, last: int) -> int | None:
        """The place that input `number` says, `last` where there is none; None where unknown."""
        if len(node.input) <= number or not node.input[number]:
            return last
        value = self.constants.get(node.input[number])
        if value is None:
            return None
        place = int(value.item())
        place += length if place < 0 else 0
        return place if 0 <= place <= last else None

    def parts(self, node: onnx.NodeProto) -> list[str] | None:
        """What the sequence that `node` reads consists of."""
        return self.known.get(node.input[0]) if node.input else None

    def construct(self, node: onnx.NodeProto) -> list[str] | None:
        return list(node.input)

    def insert(self, node: onnx.NodeProto) -> list[str] | None:
        parts = self.parts(node)
        place = None if parts is None else self.place(node, 2, len(parts), len(parts))
        return None if place is None else [*parts[:place], node.input[1], *parts[place:]]

    def erase(self, node: onnx.NodeProto) -> list[str] | None:
        parts = self.parts(node)
        place = None if parts is None else self.place(node, 1, len(parts), len(parts) - 1)
        return None if place is None else [*parts[:place], *parts[place + 1 :]]

    def at(self, node: onnx.NodeProto) -> bool:
        parts = self.parts(node)
        place = None if parts is None else self.place(node, 1, len(parts), len(parts) - 1)
        if place is None:
            return False
        self.add("Identity", [parts[place]], [node.output[0]])
        return True

    def length(self, node: onnx.NodeProto) -> bool:
        parts = self.parts(node)
        if parts is None:
            return False
        name = self.constant(f"{node.output[0]}/length", len(parts))
        self.add("Identity", [name], [node.output[0]])
        return True

    def concat(self, node: onnx.NodeProto) -> bool:
        parts, result = self.parts(node), node.output[0]
        if not parts:
            return False
        axis = attribute(node, "axis")
        if attribute(node, "new_axis", 0):
            as_input = self._model.opset() >= _SIZES_ARE_INPUT
            given = [self.constant(f"{result}/axes", [axis])] if as_input else []
            attrs = {} if as_input else {"axes": [axis]}
            wide = [f"{result}/wide{number}" for number in range(len(parts))]
            for part, name in zip(parts, wide, strict=True):
                self.add("Unsqueeze", [part, *given], [name], **attrs)
            parts = wide
        self.add("Concat", parts, [result], axis=axis)
        return True

    def split(self, node: onnx.NodeProto) -> list[str] | None:
        x, result, axis = node.input[0], node.output[0], attribute(node, "axis", 0)
        given = node.input[1] if len(node.input) > 1 else ""
        lengths, size = self._shapes.get(given), self._shapes.get(x, {axis: None})[axis]
        if given and lengths:
            return self._split(node, given, lengths[0]) if isinstance(lengths[0], int) else None
        if not isinstance(size, int) or not 0 < size <= MOST_PARTS:
            return None
        if given and given not in self.constants:
            return None
        if not given and not attribute(node, "keepdims", 1):
            parts = [f"{result}/part{number}" for number in range(size)]
            for number, part in enumerate(parts):
                self.add("Gather", [x, self.constant(f"{part}/at", number)], [part], axis=axis)
            return parts
        step = int(self.constants[given].item()) if given else 1
        sizes = [min(step, size - start) for start in range(0, size, step)]
        name = self.constant(f"{result}/sizes", sizes)
        self.constants[name] = np.asarray(sizes)
        return self._split(node, name, len(sizes))

    def _split(self, node: onnx.NodeProto, sizes: str, count: int) -> list[str] | None:
        """Parts whose sizes are the numbers of the tensor `sizes`."""
        parts = [f"{node.output[0]}/part{number}" for number in range(count)]
        axis = attribute(node, "axis", 0)
        if self._model.opset() >= _SIZES_ARE_INPUT:
            self.add("Split", [node.input[0], sizes], parts, axis=axis)
        elif sizes in self.constants:
            self.add(
                "Split", [node.input[0]], parts, axis=axis, split=self.constants[sizes].tolist()
            )
        else:
            return None
        return parts


_MAKERS: dict[str, Callable[[_Rewriting, onnx.NodeProto], list[str] | None]] = {
    "Identity": _Rewriting.parts,
    "SequenceConstruct": _Rewriting.construct,
    "SequenceEmpty": _Rewriting.construct,
    "SequenceErase": _Rewriting.erase,
    "SequenceInsert": _Rewriting.insert,
    "SplitToSequence": _Rewriting.split,
}
_READERS: dict[str, Callable[[_Rewriting, onnx.NodeProto], bool]] = {
    "ConcatFromSequence": _Rewriting.concat,
    "SequenceAt": _Rewriting.at,
    "SequenceLength": _Rewriting.length,
}
