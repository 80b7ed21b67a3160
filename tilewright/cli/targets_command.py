"""tilewright targets [NAME]"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.cli import flags
from tilewright.cli.report import Report, bytes_text
from tilewright.errors import TargetError
from tilewright.targets import CATALOG, Target, host, resolve


@click.command("targets")
@click.argument("name", required=False)
@flags.reporting
@flags.everywhere
def command(name: str | None, json_to: str | None, html_to: Path | None, **_everywhere: Any) -> int:
    """List the targets; with NAME, one of them in full. `native` is this machine."""
    report = _one(resolve(name)) if name else _all()
    report.emit(json_to, html_to)
    return 0


def _all() -> Report:
    try:
        here = resolve("native")
    except TargetError:
        here = None
    rows = [row for row in (here, *CATALOG) if row]
    data = {"native": here.to_dict() if here else None, "targets": [t.to_dict() for t in CATALOG]}
    report = Report("targets", data)
    report.table(
        "",
        ["target", "what it is", "vectors", "L1d", "L2", "runs here"],
        [
            [
                row.name,
                row.title,
                f"{row.vector_registers} x {row.vector_bits} bit",
                bytes_text(row.l1d_bytes),
                bytes_text(row.l2_bytes),
                _runs_here(row, here),
            ]
            for row in rows
        ],
    )
    return report


def _runs_here(row: Target, here: Target | None) -> str:
    if here is None:
        return "no"
    missing = host.lacks(row)
    return "yes" if not missing else f"no: {', '.join(missing[:3])}{'...' * (len(missing) > 3)}"


def _one(row: Target) -> Report:
    facts = row.to_dict()
    report = Report(f"target {row.name}", facts)
    shown = {**facts, "features": " ".join(facts["features"]) or "SSE2 only"}
    models = [f"{vendor} {family:#x}/{model:#x}" for vendor, family, model in row.family_models]
    shown["family_models"] = ", ".join(models) or "-"
    report.table("", ["fact", "value"], [[key, value] for key, value in shown.items()])
    return report
