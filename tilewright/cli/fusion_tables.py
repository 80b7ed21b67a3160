"""The fusion report as tables and a drawing."""

from __future__ import annotations

from typing import Any

from tilewright.analysis.drawing import draw, steps
from tilewright.cli.report import Report, bytes_text


def add_fusions(report: Report, fusion: dict[str, Any], max_nodes: int) -> None:
    """Add everything `tilewright.analyze` found to `report`."""
    cover = fusion["coverage"]
    summary = {
        "operators": f"{fusion['operators_before']} -> {fusion['operators_after']}",
        "in fused groups": f"{cover['operators']:.1%} of operators, {cover['flops']:.1%} of FLOPs, "
        f"{cover['bytes']:.1%} of bytes",
        "groups": f"{cover['groups']:.1%} of what is left to run are fused groups",
        "memory traffic": f"{bytes_text(fusion['bytes_before'])} -> "
        f"{bytes_text(fusion['bytes_after'])} ({-fusion['traffic_reduction']:+.1%})",
        "work": f"{fusion['flops'] / 1e9:.2f} GFLOP; compute-bound above "
        f"{fusion['ridge']:.1f} FLOP/B on {fusion['target']}",
    }
    report.table("fusion", ["what", "value"], [[k, v] for k, v in summary.items()])
    report.table(
        "patterns",
        ["pattern", "groups", "operators each", "FLOP/B", "bytes saved"],
        [
            [
                row["fusion"],
                row["count"],
                f"{row['average_operators']:.1f}",
                f"{row['average_intensity']:.1f}",
                bytes_text(row["bytes_saved"]),
            ]
            for row in fusion["patterns"]
        ],
    )
    report.table(
        "groups",
        [
            *("group", "kernel", "computes", "nodes", "MFLOP", "bytes before", "bytes after"),
            *("FLOP/B before", "FLOP/B after", "bound"),
        ],
        [
            [
                group["name"],
                group["kernel"],
                steps(group["spec"]),
                ", ".join(group["nodes"]),
                f"{group['flops'] / 1e6:.1f}",
                bytes_text(group["bytes_before"]),
                bytes_text(group["bytes_after"]),
                f"{group['intensity_before']:.1f}",
                f"{group['intensity_after']:.1f}",
                group["bound"],
            ]
            for group in fusion["groups"]
        ],
    )
    if fusion["blocks"]:
        rows = [
            [f"{block['count']} times", ", ".join(block["of"]), block["first"], block["last"]]
            for block in fusion["blocks"]
        ]
        report.table("equal blocks", ["", "of", "from", "to"], rows)
    if fusion["leftovers"]:
        rows = [[left["node"], left["reason"]] for left in fusion["leftovers"]]
        report.table("operators that stand alone", ["operator", "why"], rows)
    if fusion["near_misses"]:
        rows = [
            [m["at"], m["fusion"], m["reason"], m["mend"] or "", m["taken_by"] or ""]
            for m in fusion["near_misses"]
        ]
        titles = ["at", "pattern", "why not", "what would do", "taken by"]
        report.table("near misses", titles, rows)
    if max_nodes:
        report.drawing = draw(fusion, max_nodes)


def add_comparison(report: Report, one: dict[str, Any] | None, two: dict[str, Any] | None) -> None:
    """Add a table of two fusion reports side by side."""
    if one is None or two is None:
        report.lines.append("nothing to compare: one side has no fusion report")
        return
    rows = [
        [name, f"{one['coverage'][key]:.1%}", f"{two['coverage'][key]:.1%}"]
        for name, key in (
            ("operators in groups", "operators"),
            ("groups", "groups"),
            ("FLOPs in groups", "flops"),
            ("bytes in groups", "bytes"),
        )
    ]
    for name, key in (("operators before", "operators_before"), ("after", "operators_after")):
        rows.append([name, one[key], two[key]])
    for name, key in (("traffic before", "bytes_before"), ("traffic after", "bytes_after")):
        rows.append([name, bytes_text(one[key]), bytes_text(two[key])])
    counts = [{row["fusion"]: row["count"] for row in side["patterns"]} for side in (one, two)]
    for name in sorted({*counts[0], *counts[1]}):
        rows.append([f"{name} groups", counts[0].get(name, 0), counts[1].get(name, 0)])
    report.table("comparison", ["what", one["model"], two["model"]], rows)
