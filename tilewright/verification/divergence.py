"""Where a run leaves the truth: the first ONNX tensor that is wrong, and the kernel that made it.

What a kernel call made is compared with every tensor of the model in double precision, in the
usual order and with channels last. A call whose result is one of them is right, unless it is the
last of a group: that has to make what the group's last node makes. From a wrong output one goes
back through the calls that are not right; the first of those in the order of the run is at fault,
for all that it reads is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tilewright.compiler.importer.graph import is_random, label, reads
from tilewright.verification.trace import Call, Trace


@dataclass(frozen=True)
class Graph:
    """The nodes of a model's main graph, and which tensors depend on its inputs."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    producer: Mapping[str, onnx.NodeProto] = field(init=False)
    order: Mapping[str, int] = field(init=False)
    # Tensors that are the same whatever the inputs are do not count as read.
    varying: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        producer = {name: node for node in self.nodes for name in node.output if name}
        varying = set(self.inputs)
        for node in self.nodes:
            if reads(node) & varying or is_random(node, {}):
                varying.update(filter(None, node.output))
        object.__setattr__(self, "producer", producer)
        object.__setattr__(self, "order", {name: n for n, name in enumerate(producer)})
        object.__setattr__(self, "varying", frozenset(varying))

    def behind(self, tensor: str, known: set[str]) -> tuple[set[str], list[onnx.NodeProto]]:
        """The nearest tensors of `known` from which `tensor` is computed, and the nodes between."""
        cut: set[str] = set()
        seen: set[str] = set()
        waiting = [tensor]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self.varying:
                continue
            seen.add(name)
            if name != tensor and (name in known or name not in self.producer):
                cut.add(name)
            elif name in self.producer:
                waiting += reads(self.producer[name])
        inside = {id(self.producer[name]) for name in seen - cut if name in self.producer}
        return cut, [node for node in self.nodes if id(node) in inside]

    def after(self, tensor: str) -> set[str]:
        """Every tensor that is computed from `tensor`."""
        found = {tensor}
        for node in self.nodes:
            if reads(node) & found:
                found.update(filter(None, node.output))
        return found - {tensor}


@dataclass(frozen=True)
class Divergence:
    """The first wrong tensor: its error relative to its largest value, and how much is right.

    `call` made it; `cut` are the nearest right tensors, from which `nodes` compute it. `group` are
    those of them whose work the call does, where the manifest says so: no other call makes what
    the rest of them does.
    """

    tensor: str
    error: float
    allowed: float
    call: Call
    cut: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]
    group: tuple[onnx.NodeProto, ...] = ()


def first_divergence(
    trace: Trace,
    graph: Graph,
    truth: Mapping[str, np.ndarray],
    kernels: Sequence[Mapping[str, Any]],
    allowed: Mapping[str, float],
    wrong: Sequence[str],
) -> Divergence | None:
    """Where the outputs named `wrong` went wrong; None when every kernel is right.

    `truth` has the tensors of the model in double precision, `kernels` are those of the manifest,
    `allowed` is how far a tensor may be off, relative to its largest value.
    """
    search = _Search(trace, graph, truth, kernels, allowed)
    return search.first(wrong)


class _Search:
    def __init__(
        self,
        trace: Trace,
        graph: Graph,
        truth: Mapping[str, np.ndarray],
        kernels: Sequence[Mapping[str, Any]],
        allowed: Mapping[str, float],
    ) -> None:
        self._trace, self._graph, self._allowed = trace, graph, allowed
        self._truth = {name: truth[name] for name in graph.order if name in truth}
        self._truth |= {name: truth[name] for name in graph.inputs if name in truth}
        self._by_size: dict[int, list[str]] = {}
        for name in self._truth:
            if name in graph.varying:
                self._by_size.setdefault(self._size(name), []).append(name)
        last = {label(node): [n for n in node.output if n] for node in graph.nodes}
        rows = {row["name"]: row for row in kernels}
        # What the last kernel of a group makes; what lies inside groups is made by no other.
        self._due: dict[str, list[str]] = {}
        self._groups: dict[str, set[str]] = {}
        self._inside: set[str] = set()
        for name, row in rows.items():
            nodes = [[node for node in group if node in last] for group in row["nodes"]]
            made = [[t for node in group for t in last[node]] for group in nodes if group]
            self._inside.update(*made)
            self._groups.update((group[-1], set(group)) for group in made)
            if name == row["group"] or name.startswith(f"{row['group']}_form"):
                self._due[name] = [t for group in nodes if group for t in last[group[-1]]]
        self._outputs = {number: name for name, number in trace.makers.items()}
        self._matches = [self._found(call) for call in trace.calls]

    def first(self, wrong: Sequence[str]) -> Divergence | None:
        suspects = self._suspects(wrong)
        confirmed = set(self._graph.inputs)
        for call, found in zip(self._trace.calls, self._matches, strict=True):
            if call.number not in suspects:
                confirmed |= found
        for number in sorted(suspects):
            call = self._trace.calls[number]
            tensor = self._expected(call, confirmed)
            if tensor is not None:
                cut, nodes = self._graph.behind(tensor, confirmed)
                made = self._groups.get(tensor, set()) if self._due_of(call) else set()
                group = tuple(node for node in nodes if made & {*node.output})
                error = min(self._distance(result, tensor) for result in call.results)
                return Divergence(
                    *(tensor, error, self._allowed[tensor], call),
                    tuple(sorted(cut)),
                    tuple(nodes),
                    group,
                )
        return None

    def _found(self, call: Call) -> set[str]:
        """The tensors that the results of `call` are, if it made what it had to."""
        found = {
            name
            for result in call.results
            for name in self._by_size.get(result.size, ())
            if self._distance(result, name) <= self._allowed[name]
        }
        due = self._due_of(call)
        if not due:
            return found
        # Passes move factors into a group: it may make what comes after, and not what is before.
        fine = set(due).union(*(self._graph.after(name) for name in due))
        return found if found & fine else set()

    def _due_of(self, call: Call) -> list[str]:
        if call.number in self._outputs:
            return [self._outputs[call.number]]
        # A product that stands for several nodes makes none of their tensors.
        sizes = {result.size for result in call.results}
        due = self._due.get(call.kernel, [])
        return [name for name in due if name in self._truth and self._size(name) in sizes]

    def _distance(self, result: np.ndarray, name: str) -> float:
        """How far `result` is from a tensor, relative to its largest value, in its best order."""
        return distance(result, self._truth[name])

    def _suspects(self, wrong: Sequence[str]) -> set[int]:
        """Calls without a right result from which the outputs `wrong` come."""
        suspects: set[int] = set()
        waiting = [self._trace.makers[name] for name in wrong if name in self._trace.makers]
        while waiting:
            number = waiting.pop()
            if number not in suspects and not self._matches[number]:
                suspects.add(number)
                waiting += self._trace.calls[number].calls
        return suspects

    def _right_behind(self, call: Call) -> set[str]:
        """The right tensors that `call` reads, through what no tensor of the model is."""
        right, seen = set(call.inputs), set()
        waiting = list(call.calls)
        while waiting:
            number = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            right |= self._matches[number] | set(self._trace.calls[number].inputs)
            if not self._matches[number]:
                waiting += self._trace.calls[number].calls
        return right

    def _expected(self, call: Call, confirmed: set[str]) -> str | None:
        """The tensor that `call` should have made; None for one on the way to it."""
        due = [name for name in self._due_of(call) if name not in confirmed]
        right = self._right_behind(call)
        options = due or [
            name
            for result in call.results
            for name in self._by_size.get(result.size, ())
            if name not in confirmed and name not in self._inside
        ]
        # Of several calls of one kernel, and of nodes in one kernel: the one whose operands are
        # those that it reads, the nearest.
        fit = []
        for name in options:
            cut, _ = self._graph.behind(name, confirmed)
            near = min(self._distance(result, name) for result in call.results)
            fit.append((not cut <= right, not cut & right, near, self._graph.order[name], name))
        best = min(fit, default=None)
        if best is None or (not due and best[1]):
            return None
        return best[-1]

    def _size(self, name: str) -> int:
        return np.asarray(self._truth[name]).size


def distance(result: np.ndarray, truth: np.ndarray) -> float:
    """The largest difference relative to the largest |truth|, in the order that fits best.

    `result` may have the channels of `truth`, its second axis, last; or the other way round.
    Infinite where sizes, NaN or infinities differ.
    """
    truth = np.asarray(truth)
    if result.size != truth.size:
        return np.inf
    if not truth.size:
        return 0.0
    orders = [truth]
    if truth.ndim > 2:
        orders += [np.moveaxis(truth, 1, -1), np.moveaxis(truth, -1, 1)]
    ours = result.astype(np.float64).ravel()
    return min(_difference(ours, order.astype(np.float64).ravel()) for order in orders)


def _difference(ours: np.ndarray, truth: np.ndarray) -> float:
    finite = np.isfinite(truth)
    with np.errstate(invalid="ignore"):
        same = np.array_equal(ours[~finite], truth[~finite], equal_nan=True)
    if not same or not np.isfinite(ours[finite]).all():
        return np.inf
    scale = float(np.abs(truth[finite]).max(initial=0.0)) or 1.0
    return float(np.abs(ours[finite] - truth[finite]).max(initial=0.0)) / scale
