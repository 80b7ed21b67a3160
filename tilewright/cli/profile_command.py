"""tilewright profile MODEL.onnx|ARTIFACT"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from tilewright.cli import console, flags
from tilewright.cli.report import Report, bytes_text, seconds_text, threads_text
from tilewright.options import CompileOptions


@click.command("profile")
@click.argument("subject", type=click.Path(path_type=Path), metavar="MODEL.onnx|ARTIFACT|BUNDLE")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="How long to measure.",
)
@flags.records
@flags.compiling
@flags.inputs
@flags.threads
@flags.reporting
@flags.everywhere
def command(
    subject: Path,
    seconds: float,
    db: Path | bool,
    target: str,
    shapes: dict,
    options: CompileOptions,
    inputs: tuple[str, ...],
    threads: int | None,
    json_to: str | None,
    html_to: Path | None,
    level: int,
) -> int:
    """Show where the time of a run goes, kernel by kernel, beside what the machine could do."""
    from tilewright import api

    def action(progress: console.Progress) -> Any:
        return api.profile(
            subject,
            target=target,
            shapes=shapes,
            options=options,
            inputs=inputs,
            threads=threads,
            seconds=seconds,
            db=db,
            progress=progress,
        )

    found = console.with_progress(level, action)
    report = Report(f"profile of {subject.name}", found)
    _add_rules(report, found)
    _add_kernels(report, found)
    _add_summary(report, found)
    report.emit(json_to, html_to)
    return 0


def _add_rules(report: Report, found: dict[str, Any]) -> None:
    seconds: Counter[str] = Counter()
    least: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for row in found["kernels"]:
        seconds[row["rule"]] += row["seconds"]
        least[row["rule"]] += row["seconds"] * row["roof_share"]
        count[row["rule"]] += 1
    rows = [
        [
            rule,
            count[rule],
            seconds_text(time),
            f"{time / found['seconds']:.1%}",
            f"{least[rule] / time:.0%}",
        ]
        for rule, time in seconds.most_common()
    ]
    report.table("by rule", ["rule", "kernels", "time", "of the run", "of the roof"], rows)


def _add_kernels(report: Report, found: dict[str, Any]) -> None:
    rows = [
        [
            row["name"],
            row["rule"],
            row["calls"],
            seconds_text(row["seconds"]),
            f"{row['share']:.1%}",
            "" if row["flops_per_second"] is None else f"{row['flops_per_second'] / 1e9:.1f}",
            f"{row['bytes_per_second'] / 1e9:.1f}",
            f"{row['roof_share']:.0%}",
            row["bound"],
            _nodes_text(row["nodes"]),
        ]
        for row in found["kernels"]
    ]
    header = ["kernel", "rule", "calls", "time", "of the run", "GF/s", "GB/s"]
    report.table("by kernel", [*header, "of the roof", "bound", "ONNX nodes"], rows)


def _nodes_text(calls: list[list[str]]) -> str:
    """The first and last node of a kernel's first call."""
    if not calls:
        return ""
    ends = calls[0] if len(calls[0]) < 3 else [calls[0][0], "...", calls[0][-1]]
    return " ".join(ends) + (f", {len(calls) - 1} more times" if calls[1:] else "")


def _add_summary(report: Report, found: dict[str, Any]) -> None:
    whole, roof = found["seconds"], found["roofline"]
    least = sum(row["seconds"] * row["roof_share"] for row in found["kernels"])
    levels = ", ".join(
        f"{level['name']} {level['bandwidth'] / 1e9:.0f} GB/s"
        + (f" up to {bytes_text(level['holds'])}" if level["holds"] else "")
        for level in roof["levels"]
    )
    report.lines += [
        f"a run takes {seconds_text(whole)} on {threads_text(found['threads'])}: kernels "
        f"{seconds_text(found['kernel_seconds'])}, the rest {seconds_text(found['rest_seconds'])}",
        f"the kernels' roof is {seconds_text(least)}, {least / whole:.0%} of the run",
        f"this machine: {roof['peak'] / 1e9:.0f} GF/s; {levels}",
    ]
