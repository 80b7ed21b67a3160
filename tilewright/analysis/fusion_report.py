"""What fusion did to a model: groups, coverage, traffic, near misses; as JSON values.

Operators are those of the normalised ONNX graph, shape plumbing left out and SiLU counted once.
A group counts as fused when it holds at least two of them and the scheduled module calls it as
a kernel of its own. An operator that constant folding swallowed (a batch normalisation, a
learnt scale) counts with the group that does its work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tilewright.analysis.blocks import runs_of
from tilewright.analysis.cost import Cost, is_operator, node_cost, silu_halves
from tilewright.analysis.memory import bytes_of
from tilewright.compiler.importer.graph import label
from tilewright.compiler.importer.normalise.fold import Shape, infer_dtypes, infer_shapes
from tilewright.compiler.manifest import group_of
from tilewright.compiler.pipeline import Work
from tilewright.passes.fusion import Group
from tilewright.verification.inputs import sizes_to_try


@dataclass
class _Node:
    """One ONNX operator of the graph: its label, cost and the group that runs it."""

    name: str
    operator: str
    cost: Cost
    counts: bool
    group: str | None = None
    gone: bool = False


@dataclass
class _Facts:
    shapes: dict[str, Shape]
    dtypes: dict[str, np.dtype]
    dims: dict[str, int]
    nodes: dict[str, _Node] = field(default_factory=dict)


def collect(model: onnx.GraphProto, work: Work) -> _Facts:
    """Costs of every node, taken right after normalisation, before import drops the weights."""
    dims = sizes_to_try({k: list(v) for k, v in work.bounds.items()})[-1]
    shapes = infer_shapes(work.model, dims)
    dtypes = infer_dtypes(work.model)
    facts = _Facts(shapes, dtypes, dims)
    halves = silu_halves(model)
    for node in model.node:
        counts = is_operator(node) and not halves.intersection(node.output)
        cost = node_cost(node, shapes, dtypes, facts.dims)
        facts.nodes[label(node)] = _Node(label(node), node.op_type, cost, counts)
    return facts


def report(facts: _Facts, work: Work, values: list[str]) -> dict[str, Any]:
    """The report of a work that has run to the stage `weights`.

    `values` names the variables of `main` before fusion.
    """
    called = {group_of(work, kernel) for kernel in work.kernels}
    owner = _assign(facts, work, called, values)
    groups = [_group(group, owner[group.function], work, facts) for group in work.fusions.groups]
    fused = [g for g in groups if g["operators"] >= 2 and g["kernel"] in called]
    counted = [node for node in facts.nodes.values() if node.counts]
    inside = {name for g in fused for name in g["nodes"]}
    covered = [node for node in counted if node.name in inside or node.gone]
    total = sum((node.cost for node in facts.nodes.values()), Cost())
    in_groups = sum((n.cost for n in facts.nodes.values() if n.name in inside or n.gone), Cost())
    leftovers = [node for node in counted if node not in covered]
    after = sum(g["bytes_after"] for g in groups)
    alone = {n for g in groups for n in g["nodes"]}
    after += sum(n.cost.bytes for n in facts.nodes.values() if n.name not in alone and not n.gone)
    return {
        "model": work.path.name,
        "target": work.target.name,
        "ridge": work.target.ridge,
        "order": [node.name for node in facts.nodes.values() if node.counts],
        "operators_before": len(counted),
        "operators_after": len(fused) + len(leftovers),
        "flops": total.flops,
        "bytes_before": total.bytes,
        "bytes_after": after,
        "traffic_reduction": 1 - after / total.bytes if total.bytes else 0.0,
        "coverage": {
            "operators": _share(len(covered), len(counted)),
            "groups": _share(len(fused), len(fused) + len(leftovers)),
            "flops": _share(in_groups.flops, total.flops),
            "bytes": _share(in_groups.bytes, total.bytes),
        },
        "groups": groups,
        "blocks": _blocks(facts, fused, leftovers),
        "patterns": _patterns(fused),
        "leftovers": [
            {"node": n.name, "operator": n.operator, "reason": _why(n, work)} for n in leftovers
        ],
        "near_misses": [
            {
                "fusion": miss.fusion,
                "root": ", ".join(work.origins.get(miss.root, (miss.root,))),
                "at": ", ".join(work.origins.get(miss.at, (miss.at,))),
                "reason": miss.reason,
                "mend": miss.mend,
                "taken_by": miss.taken_by,
            }
            for miss in work.fusions.near_misses
        ],
    }


def _assign(
    facts: _Facts, work: Work, called: set[str], values: list[str]
) -> dict[str, list[_Node]]:
    """The nodes of each group; nodes no kernel carries any more are marked gone."""
    owner: dict[str, list[_Node]] = {}
    for group in work.fusions.groups:
        nodes = [facts.nodes[n] for n in group.nodes(work.origins) if n in facts.nodes]
        owner[group.function] = nodes
        for node in nodes:
            node.group = group.function if group.kernel in called else None
    alive = {name for value in values for name in work.origins.get(value, ())}
    for node in facts.nodes.values():
        node.gone = node.name not in alive and node.group is None
    return owner


def _group(group: Group, nodes: list[_Node], work: Work, facts: _Facts) -> dict[str, Any]:
    cost = sum((node.cost for node in nodes), Cost())
    after = Cost(cost.flops, _tensor_bytes(group, facts.dims))
    return {
        "name": group.function,
        "kernel": group.kernel,
        "fusion": group.fusion,
        "spec": group.spec.to_dict(),
        "nodes": [node.name for node in nodes],
        "operators": sum(node.counts for node in nodes),
        "flops": cost.flops,
        "bytes_before": cost.bytes,
        "bytes_after": after.bytes,
        "bytes_saved": cost.bytes - after.bytes,
        "intensity_before": cost.intensity,
        "intensity_after": after.intensity,
        "bound": "compute" if after.intensity >= work.target.ridge else "bandwidth",
    }


def _tensor_bytes(group: Group, dims: dict[str, int]) -> float:
    """What the group reads and writes: its arguments and its result, once each."""
    return float(sum(bytes_of(kind, dims) for kind in group.tensors))


def _blocks(
    facts: _Facts, fused: list[dict[str, Any]], leftovers: list[_Node]
) -> list[dict[str, Any]]:
    """Runs of equal blocks among the groups that count and the operators that stand alone."""
    places = {name: place for place, name in enumerate(facts.nodes)}
    items = [
        (max(map(places.get, group["nodes"]), default=0), group["kernel"], group["fusion"], group)
        for group in fused
    ]
    items += [(places[n.name], n.operator, n.operator, {"nodes": [n.name]}) for n in leftovers]
    items.sort(key=lambda item: item[0])
    return [
        {
            "count": run.count,
            "of": [shown for _, _, shown, _ in items[run.start : run.start + run.length]],
            "first": items[run.start][3]["nodes"][0],
            "last": items[run.stop - 1][3]["nodes"][-1],
        }
        for run in runs_of([key for _, key, _, _ in items])
    ]


def _patterns(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name, count in Counter(g["fusion"] for g in groups).most_common():
        of = [g for g in groups if g["fusion"] == name]
        rows.append(
            {
                "fusion": name,
                "count": count,
                "average_operators": sum(g["operators"] for g in of) / count,
                "average_intensity": sum(g["intensity_after"] for g in of) / count,
                "bytes_saved": sum(g["bytes_saved"] for g in of),
            }
        )
    return rows


def _why(node: _Node, work: Work) -> str:
    for miss in work.fusions.near_misses:
        if node.name in work.origins.get(miss.root, ()):
            return f"{miss.fusion}: {miss.reason}"
    if node.group:
        return "nothing to fuse it with: it stands alone in its group"
    return "no fusion has a pattern for it here"


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
