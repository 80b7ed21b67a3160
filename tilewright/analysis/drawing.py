"""A model as characters: its groups as boxes, what stands alone as lines, in order.

+-- conv_block_0  bias, relu ------------------ compute, 12.1 FLOP/B
|  node_Conv_759 (Conv)
|  node_relu (Relu)
+-------------------------------------------------------------------
.  node_max_pool2d (MaxPool)
"""

from __future__ import annotations

from typing import Any

WIDTH = 88


def draw(report: dict[str, Any], max_nodes: int = 60) -> str:
    """The first `max_nodes` groups and single operators of a fusion report, in graph order."""
    items = [("group", group) for group in report["groups"] if group["operators"] >= 2]
    singles = {left["node"] for left in report["leftovers"]}
    order = {name: place for place, name in enumerate(report["order"])}
    items += [("single", name) for name in singles]

    def place(item: tuple[str, Any]) -> int:
        kind, what = item
        names = what["nodes"] if kind == "group" else [what]
        return max(order.get(name, 0) for name in names)

    items.sort(key=place)
    lines: list[str] = []
    for kind, what in items[:max_nodes]:
        lines += _box(what) if kind == "group" else [f".  {what}"]
    if len(items) > max_nodes:
        lines.append(f"... {len(items) - max_nodes} more (--max-nodes {len(items)})")
    return "\n".join(lines)


def steps(spec: dict[str, Any]) -> str:
    """What a spec names: its method and functions, then what is done in the store."""
    inside = (spec.get(key) for key in ("method", "function", "activation", "gate"))
    return ", ".join([*filter(None, inside), *spec.get("epilogue", ())])


def _box(group: dict[str, Any]) -> list[str]:
    left = f"+-- {group['name']}  {steps(group['spec'])} ".rstrip() + " "
    right = f" {group['bound']}, {group['intensity_after']:.1f} FLOP/B"
    rule = "-" * max(2, WIDTH - len(left) - len(right))
    inside = [f"|  {name}" for name in group["nodes"]]
    return [left + rule + right, *inside, "+" + "-" * (WIDTH - 1)]
