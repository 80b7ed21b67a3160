"""tilewright preflight MODEL.onnx"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.cli import flags
from tilewright.cli.console import with_progress
from tilewright.cli.report import Report, bytes_text, interface_table
from tilewright.options import CompileOptions

# Nodes of a finding that are named; --json has all.
SHOWN_NODES = 5


@click.command("preflight")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@flags.compiling
@flags.reporting
@flags.everywhere
def command(
    model: Path,
    target: str,
    shapes: dict,
    options: CompileOptions,
    json_to: str | None,
    html_to: Path | None,
    level: int,
) -> int:
    """Say whether a model will compile, what stands in the way, and what it will take.

    Every stage that may refuse the model runs; no code is written. Exit code 1 when something is
    unsupported.
    """
    from tilewright import api

    facts = with_progress(
        level, lambda progress: api.preflight(model, target, shapes, options, progress=progress)
    )
    report = Report(f"preflight of {model.name}", facts)
    if "operators" in facts:
        _add_model(report, facts)
    _add_findings(report, facts)
    report.emit(json_to, html_to)
    return 0 if facts["compiles"] else 1


def _add_model(report: Report, facts: dict[str, Any]) -> None:
    external = [f"{row['file']} ({bytes_text(row['bytes'])})" for row in facts["external"]]
    shown = {
        "opset": facts["opset"],
        "weights": f"{facts['parameters'] / 1e6:.2f} M, {bytes_text(facts['weight_bytes'])}",
        "external data": _listed(external) or "none",
        "kernels": "not known" if facts["kernels"] is None else _kernels_text(facts),
    }
    report.table("", ["fact", "value"], [[k, v] for k, v in shown.items()])
    interface_table(report, facts["inputs"], facts["outputs"])
    rows = [
        [
            row["domain"],
            row["operator"],
            row["version"],
            _support(row),
            len(row["nodes"]),
            _listed([name.replace(f" ({_qualified(row)})", "") for name in row["nodes"]], 2),
        ]
        for row in facts["operators"]
    ]
    header = ["domain", "operator", "version", "converted by", "nodes", "which"]
    report.table(f"{len(rows)} operators", header, rows)
    if facts["dimensions"]:
        rows = [
            [row["name"], row["low"], row["high"] or "open", _listed(row["inputs"]), row["needs"]]
            for row in facts["dimensions"]
        ]
        report.table("open dimensions", ["name", "from", "to", "inputs", "needs"], rows)
    if facts["computed_shapes"]:
        rows = [[row["node"], row["shape"]] for row in facts["computed_shapes"][:SHOWN_NODES]]
        report.table("sizes known only when the model runs", ["from node", "shape"], rows)
    rows = [
        [
            ", ".join(f"{name}={size}" for name, size in row["sizes"].items()) or "fixed",
            _operations_text(row["flops"]),
            "not known" if row["activation_bytes"] is None else bytes_text(row["activation_bytes"]),
        ]
        for row in facts["estimates"]
    ]
    report.table("estimates", ["sizes", "operations of a run", "memory beside weights"], rows)


def _qualified(row: dict[str, Any]) -> str:
    plain = row["domain"] == "ai.onnx"
    return row["operator"] if plain else f"{row['domain']}.{row['operator']}"


def _support(row: dict[str, Any]) -> str:
    """Who converts an operator; what is refused of it stands out."""
    if row["refused"] == len(row["nodes"]):
        return "NOT SUPPORTED"
    return row["converted_by"] + (f", {row['refused']} REFUSED" if row["refused"] else "")


def _operations_text(count: float) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}FLOP"
    return f"{count:.0f} FLOP"


def _add_findings(report: Report, facts: dict[str, Any]) -> None:
    if facts["compiles"]:
        report.lines.append("it will compile")
        return
    for finding in facts["findings"]:
        subject = f"{finding['operator']}: " if finding["operator"] else ""
        report.lines.append(f"{subject}{finding['what']}")
        nodes, where = finding["nodes"], finding["where"]
        if len(nodes) > 1 or (nodes and not where):
            where = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}: {_listed(nodes)}"
        for name, text in (
            ("where", where),
            ("expected", finding["expected"]),
            ("hint", finding["hint"]),
        ):
            if text:
                report.lines.append(f"  {name}: {text}")
    if facts["unchecked"]:
        count = len(facts["unchecked"])
        report.lines.append(
            f"{count} node{'s' if count > 1 else ''} after these could not be checked, because "
            f"their types are not known: {_listed(facts['unchecked'])}"
        )
    fixed = [row for row in facts.get("dimensions", []) if row["fixed"] is not None]
    if fixed:
        words = " ".join(f"--dim {row['name']}={row['fixed']}" for row in fixed)
        report.lines.append(f"it will not compile as it is, but with {words} it will")
    else:
        count = len(facts["findings"])
        report.lines.append(
            f"it will not compile: {count} thing{'s stand' if count > 1 else ' stands'} in the way"
        )


def _kernels_text(facts: dict[str, Any]) -> str:
    rest = facts["kernels"] - facts["groups"]
    return f"about {facts['kernels']}: {facts['groups']} fused groups and {max(0, rest)} others"


def _listed(names: list[str], most: int = SHOWN_NODES) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f", and {more} more" if more > 0 else "")
