"""tilewright bench MODEL.onnx|ARTIFACT"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.cli import console, flags
from tilewright.cli.report import Report, bytes_text, seconds_text, threads_text
from tilewright.options import CompileOptions


@click.command("bench")
@click.argument("subject", type=click.Path(path_type=Path), metavar="MODEL.onnx|ARTIFACT|BUNDLE")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="How long to measure.",
)
@flags.reference
@flags.records
@flags.compiling
@flags.inputs
@flags.threads
@flags.reporting
@flags.everywhere
def command(
    subject: Path,
    seconds: float,
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
    """Measure latency beside ONNX Runtime's, with the same inputs and threads, taking turns.

    An artifact is compared when --model names its ONNX file, and measured alone without.
    """
    from tilewright import api

    def action(progress: console.Progress) -> Any:
        return api.bench(
            subject,
            model=model,
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
    report = Report(f"latency of {subject.name}", found)
    report.table(
        f"{subject.name}, {threads_text(found['threads'])}",
        ["engine", "median", "10%..90%", "calls", "load", "first call", "peak memory"],
        [
            [
                name,
                seconds_text(engine["median"]),
                f"{seconds_text(engine['p10'])} .. {seconds_text(engine['p90'])}",
                engine["calls"],
                seconds_text(engine["load"]),
                seconds_text(engine["first_call"]),
                bytes_text(engine["peak_bytes"]),
            ]
            for name, engine in found["engines"].items()
        ],
    )
    if "ratio" in found:
        low, high = found["ratio"]["low"], found["ratio"]["high"]
        report.lines.append(
            f"ONNX Runtime's time / ours: {found['ratio']['median']:.2f} "
            f"({low:.2f} .. {high:.2f}); above 1 we are faster"
        )
    report.emit(json_to, html_to)
    return 0
