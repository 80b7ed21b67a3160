"""tilewright verify MODEL.onnx|ARTIFACT|BUNDLE"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.cli import console, flags
from tilewright.cli.report import Report
from tilewright.options import CompileOptions


@click.command("verify")
@click.argument("subject", type=click.Path(path_type=Path), metavar="MODEL.onnx|ARTIFACT|BUNDLE")
@flags.reference
@flags.records
@flags.compiling
@flags.inputs
@flags.threads
@flags.reporting
@flags.everywhere
def command(
    subject: Path,
    model: Path | None,
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
    """Compare with ONNX Runtime (a bundle: with its golden outputs). Exit code 1 if wrong.

    A model is compiled first; an artifact needs --model; a bundle needs nothing else, not
    even onnxruntime.
    """
    from tilewright import api

    def action(progress: console.Progress) -> Any:
        return api.verify(
            subject,
            model=model,
            target=target,
            shapes=shapes,
            options=options,
            inputs=inputs,
            threads=threads,
            db=db,
            progress=progress,
        )

    found = console.with_progress(level, action)
    report = Report(f"verification of {found.subject}", found.to_dict())
    rows = [
        [
            ", ".join(f"{k}={v}" for k, v in run["dims"].items()) or "-",
            output["name"],
            "yes" if output["passed"] else "NO",
            _number(output["error"]),
            _number(output["budget"]),
            "-" if output["used"] is None else f"{output['used']:.0%}",
            f"{output['cosine']:.9f}",
        ]
        for run in found.runs
        for output in run["outputs"]
    ]
    header = ["sizes", "output", "agrees", "error", "budget", "used", "cosine"]
    report.table(f"{found.subject} against {found.reference}", header, rows)
    report.lines.append(str(found))
    report.emit(json_to, html_to)
    return 0 if found.passed else 1


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"
