"""Loops of a known length, and branches of a known condition, become their bodies.

Before   y, ys = Scan(s, xs; body: s, x -> s', o)          xs: [3, ...]
After    s1, o1 = body(s, xs[0]);  s2, o2 = body(s1, xs[1]);  y, o3 = body(s2, xs[2])
         ys = Concat(Unsqueeze(o1), Unsqueeze(o2), Unsqueeze(o3))

A Loop is one where the number of steps is a constant and the condition stays true; of an If, the
branch that is taken is left.
Source: https://onnx.ai/onnx/operators/onnx__Scan.html, onnx__Loop.html, onnx__If.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tilewright.compiler.importer.graph import all_graphs, attribute, domain_of, subgraphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import Shape, fold_constants, infer_shapes

# Longer ones would take longer to compile than they are worth.
MOST_STEPS = 256
MOST_NODES = 20_000
# Loops may lie in loops.
_MOST_ROUNDS = 4
# The version that sets Unsqueeze's axes as an input, and that of Scan without a batch.
_AXES_ARE_INPUT, _SCAN_WITHOUT_BATCH = 13, 9


def unroll(model: OnnxModel) -> None:
    """Unroll what can be in the main graph; what cannot stays."""
    for _ in range(_MOST_ROUNDS):
        if not any(node.op_type in _RULES for node in model.graph.node):
            return
        shapes = infer_shapes(model)
        constants = model.constants()
        nodes: list[onnx.NodeProto] = []
        changed = False
        # Loops in loops multiply: there is one limit for all that they become.
        room = MOST_NODES - _count(model.graph)
        for node in model.graph.node:
            rule = _RULES.get(node.op_type) if domain_of(node) == "" else None
            made = rule and rule(_Unrolling(model, node, shapes, room), constants)
            nodes += made or [node]
            if made is not None:
                changed = True
                room -= _count(onnx.GraphProto(node=made))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        if not changed:
            return
        fold_constants(model)


class _Unrolling:
    """The nodes that take the place of a loop or of branches; `body` is what is repeated."""

    def __init__(
        self, model: OnnxModel, node: onnx.NodeProto, shapes: Mapping[str, Shape], room: int
    ) -> None:
        self.model, self.node, self.shapes, self._room = model, node, shapes, room
        self.body, *_ = subgraphs(node)
        self.nodes: list[onnx.NodeProto] = []
        # Values are called after a result: names of nodes need not differ.
        self._base = next(filter(None, node.output))
        self._label = node.name or self._base

    def fits(self, steps: object) -> bool:
        """Whether so many steps are known, and not too many."""
        known = isinstance(steps, int) and 0 < steps <= MOST_STEPS
        return known and steps * _unrolled(self.body, self.model.constants()) <= self._room

    def add(self, operator: str, what: str, *inputs: str, result: str = "", **attrs: object) -> str:
        """One node; the name of its result."""
        made = result or f"{self._base}/{what}"
        self.nodes.append(
            helper.make_node(operator, inputs, [made], name=f"{self._label}/{what}", **attrs)
        )
        return made

    def constant(self, what: str, value: object) -> str:
        """An int64 initialiser."""
        name = f"{self._base}/{what}"
        self.model.add_constant(name, np.asarray(value, np.int64))
        return name

    def step(self, number: int, inputs: Sequence[str]) -> list[str]:
        """The body once more; the names of its results."""
        if number == 0:
            for tensor in self.body.initializer:
                self.model.add_constant(
                    f"{self._base}/{tensor.name}", numpy_helper.to_array(tensor)
                )
        prefix = f"{self._base}/{number}/"
        names = dict(zip((value.name for value in self.body.input), inputs, strict=True))
        names |= {t.name: f"{self._base}/{t.name}" for t in self.body.initializer}
        for node in self.body.node:
            names |= {name: prefix + name for name in node.output if name}
        for node in self.body.node:
            made = _renamed(node, names)
            made.name = f"{self._label}/{number}/{node.name or node.op_type}"
            self.nodes.append(made)
        return [names.get(value.name, value.name) for value in self.body.output]

    def give(self, place: int, value: str) -> None:
        """A state as it is in the end, as result `place`."""
        if place < len(self.node.output) and self.node.output[place]:
            self.add("Identity", f"last{place}", value, result=self.node.output[place])

    def stack(self, place: int, parts: Sequence[str], axis: int) -> None:
        """What the steps gave, side by side along a new axis, as result `place`."""
        if place >= len(self.node.output) or not self.node.output[place]:
            return
        known = self.model.opset() >= _AXES_ARE_INPUT
        given = [self.constant(f"axes{place}", [axis])] if known else []
        attrs = {} if known else {"axes": [axis]}
        wide = [
            self.add("Unsqueeze", f"{number}/wide{place}", part, *given, **attrs)
            for number, part in enumerate(parts)
        ]
        self.add("Concat", f"stack{place}", *wide, result=self.node.output[place], axis=axis)


def _count(graph: onnx.GraphProto) -> int:
    return sum(len(inner.node) for inner in all_graphs(graph))


def _unrolled(graph: onnx.GraphProto, constants: Mapping[str, np.ndarray]) -> int:
    """How many nodes `graph` is with its own loops unrolled, as far as their steps are known.

    To begin with what cannot be finished would make a large graph, and leave loops in it.
    """
    total = 0
    for node in graph.node:
        steps = constants.get(node.input[0]) if node.op_type == "Loop" else None
        inner = sum(_unrolled(body, constants) for body in subgraphs(node))
        known = steps is not None and steps.size == 1
        total += 1 + inner * (max(1, int(steps.item())) if known else 1)
    return total


def _scan(to: _Unrolling, _constants: Mapping[str, np.ndarray]) -> list[onnx.NodeProto] | None:
    node = to.node
    if to.model.opset() < _SCAN_WITHOUT_BATCH:
        return None
    count = attribute(node, "num_scan_inputs")
    states, scanned = list(node.input)[:-count], list(node.input)[-count:]
    axes = attribute(node, "scan_input_axes", [0] * count)
    back = attribute(node, "scan_input_directions", [0] * count)
    sizes = [to.shapes.get(x) for x in scanned]
    if any(shape is None for shape in sizes):
        return None
    axes = [axis % len(shape) for axis, shape in zip(axes, sizes, strict=True)]
    steps = sizes[0][axes[0]]
    if not to.fits(steps):
        return None
    given = len(to.body.output) - len(states)
    each: list[list[str]] = [[] for _ in range(given)]
    for number in range(steps):
        slices = []
        for n, (x, axis) in enumerate(zip(scanned, axes, strict=True)):
            at = to.constant(f"{number}/at{n}", steps - 1 - number if back[n] else number)
            slices.append(to.add("Gather", f"{number}/slice{n}", x, at, axis=axis))
        made = to.step(number, [*states, *slices])
        states = made[: len(states)]
        for parts, value in zip(each, made[len(states) :], strict=True):
            parts.append(value)
    for place, state in enumerate(states):
        to.give(place, state)
    out_axes = attribute(node, "scan_output_axes", [0] * given)
    out_back = attribute(node, "scan_output_directions", [0] * given)
    for n, parts in enumerate(each):
        to.stack(len(states) + n, parts[::-1] if out_back[n] else parts, out_axes[n])
    return to.nodes


def _loop(to: _Unrolling, constants: Mapping[str, np.ndarray]) -> list[onnx.NodeProto] | None:
    node = to.node
    count, condition = node.input[0], node.input[1] if len(node.input) > 1 else ""
    if getattr(constants.get(count), "size", 0) != 1 or (
        condition and not _is_true(constants.get(condition))
    ):
        return None
    steps = int(constants[count].item())
    if not to.fits(steps) or not _stays_true(to.body):
        return None
    states = list(node.input)[2:]
    given = len(to.body.output) - 1 - len(states)
    each: list[list[str]] = [[] for _ in range(given)]
    truth = f"{next(filter(None, node.output))}/true"
    to.model.add_constant(truth, np.array(True))
    for number in range(steps):
        at = to.constant(f"{number}/number", number)
        made = to.step(number, [at, truth, *states])[1:]
        states = made[: len(states)]
        for parts, value in zip(each, made[len(states) :], strict=True):
            parts.append(value)
    for place, state in enumerate(states):
        to.give(place, state)
    for n, parts in enumerate(each):
        to.stack(len(states) + n, parts, 0)
    return to.nodes


def _if(to: _Unrolling, constants: Mapping[str, np.ndarray]) -> list[onnx.NodeProto] | None:
    condition = constants.get(to.node.input[0])
    if condition is None:
        return None
    to.body = attribute(to.node, "then_branch" if _is_true(condition) else "else_branch")
    for place, value in enumerate(to.step(0, [])):
        to.give(place, value)
    return to.nodes


def _is_true(value: np.ndarray | None) -> bool:
    return value is not None and bool(value.all())


def _stays_true(body: onnx.GraphProto) -> bool:
    """Whether the condition that the body gives is true, or the one that it was given."""
    makers = {name: node for node in body.node for name in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in body.initializer}
    name = body.output[0].name
    while name in makers and makers[name].op_type in ("Identity", "Cast"):
        name = makers[name].input[0]
    if name == body.input[1].name:
        return True
    if name in makers and makers[name].op_type == "Constant":
        value = attribute(makers[name], "value")
        return value is not None and _is_true(numpy_helper.to_array(value))
    return _is_true(values.get(name))


def _renamed(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of `node` with other names, but for what graphs of its own make."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.input[:] = [names.get(name, name) for name in node.input]
    made.output[:] = [names.get(name, name) for name in node.output]
    for graph in subgraphs(made):
        own = {value.name for value in graph.input} | {t.name for t in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        outer = {name: new for name, new in names.items() if name not in own}
        inner = [_renamed(child, outer) for child in graph.node]
        del graph.node[:]
        graph.node.extend(inner)
        for value in graph.output:
            value.name = outer.get(value.name, value.name)
    return made


_RULES: dict[str, Callable] = {"If": _if, "Loop": _loop, "Scan": _scan}
