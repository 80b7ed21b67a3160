"""tilewright verify MODEL.onnx|ARTIFACT|BUNDLE"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.cli import console, flags
from tilewright.cli.report import Report
from tilewright.options import CompileOptions
from tilewright.verification.proof import Proof, sizes_text


@click.command("verify")
@click.argument("subject", type=click.Path(path_type=Path), metavar="MODEL.onnx|ARTIFACT|BUNDLE")
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Inputs to draw: shapes and values.",
)
@flags.budget("5m")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Try the .npz and .npy files in DIR first.",
)
@click.option(
    "--failures",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default="tilewright-failures",
    show_default=True,
    help="Where a failure's reproduction goes.",
)
@click.option("--localize", is_flag=True, help="Trace a failure to a tensor and to who did it.")
@flags.reference
@flags.records
@flags.compiling
@flags.inputs
@flags.threads
@flags.reporting
@flags.everywhere
def command(
    subject: Path,
    examples: int,
    budget: str,
    data: Path | None,
    failures: Path,
    localize: bool,
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
    even onnxruntime. Shapes come from the model's open dimensions (--dim bounds them), values from
    several kinds; how far an output may be off is measured on ONNX Runtime's own error against the
    model in double precision. --localize finds the first wrong tensor of a failure, the kernel
    that made it, the step without which it is right, and a small model that still fails.
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
            data=data,
            examples=examples,
            budget=flags.duration_value(budget),
            failures=failures,
            threads=threads,
            db=db,
            localize=localize,
            progress=progress,
        )

    found: Proof = console.with_progress(level, action)
    report = Report(f"verification of {found.subject}", found.to_dict())
    if found.failure is None:
        _add_outputs(report, found)
    else:
        _add_failure(report, found.failure)
    report.lines += [f"note: {note}" for note in found.notes]
    if found.no_truth:
        report.lines.append(
            f"note: compared with ONNX Runtime alone, within the error that rounding explains: "
            f"no reference in double precision ({found.no_truth})"
        )
    if found.refused:
        report.lines.append(
            f"note: ONNX Runtime refused {found.refused} inputs, the first with {found.refusal}"
        )
    if found.limits:
        report.lines.append(
            f"note: the library refused {found.limits} inputs that ONNX Runtime takes, the first "
            f"with {found.limit}"
        )
    if found.stopped:
        report.lines.append(f"note: stopped {found.stopped}; --budget 30m goes on for longer")
    report.lines.append(str(found))
    if found.failure is not None and found.failure["folder"]:
        folder = found.failure["folder"]
        report.lines.append(f"reproduction: {folder} (pytest {folder})")
    if found.cause is not None:
        _add_cause(report, found.cause)
    report.emit(json_to, html_to)
    return 0 if found.passed else 1


def _add_outputs(report: Report, found: Proof) -> None:
    rows = [
        [
            row["name"],
            row["examples"],
            f"{row['error']:.2e}",
            f"{row['ulps']:.1f}",
            f"{row['allowed']:.2e}",
            f"{row['used']:.0%}",
            f"{row['cosine']:.9f}",
            "equal" if row["sqnr"] is None else f"{row['sqnr']:.0f} dB",
        ]
        for row in found.outputs
    ]
    header = ["output", "examples", "error", "ULP", "allowed", "used", "cosine", "SQNR"]
    report.table(f"{found.subject} against {found.reference}", header, rows)


def _add_failure(report: Report, failure: dict[str, Any]) -> None:
    rows = [
        [
            verdict["name"],
            "yes" if verdict["passed"] else "NO",
            "-" if verdict["error"] is None else f"{verdict['error']:.2e}",
            "-" if verdict["allowed"] is None else f"{verdict['allowed']:.2e}",
            verdict["problem"] or "",
        ]
        for verdict in failure["verdicts"]
    ]
    sizes = f"{sizes_text(failure['dims'])}; " if failure["dims"] else ""
    title = f"the smallest failure: {sizes}values {failure['kind']}, seed {failure['seed']}"
    report.table(title, ["output", "agrees", "error", "allowed", "problem"], rows)


def _add_cause(report: Report, cause: dict[str, Any]) -> None:
    tensor, culprit, minimal = cause["tensor"], cause["culprit"], cause["minimal"]
    if tensor is not None:
        rows = [
            ["tensor", tensor["tensor"]],
            ["error", "not finite" if tensor["error"] is None else f"{tensor['error']:.2e}"],
            ["computed by", ", ".join(tensor["nodes"])],
            ["from", ", ".join(tensor["reads"])],
            ["kernel", f"{tensor['kernel']}, call {tensor['call'] + 1} of {cause['kernels']}"],
            ["fusion", tensor["fusion"] or "-"],
            ["rule", tensor["rule"]],
        ]
        report.table("the first wrong tensor", ["", ""], rows)
    if culprit is not None:
        answers = {True: "wrong", False: "right", None: "does not compile"}
        rows = [[row["off"], answers[row["fails"]]] for row in cause["tried"]]
        report.table("switched off", ["flags", "the model is"], rows)
    if minimal is not None and minimal["folder"]:
        report.lines.append(f"minimal model: {minimal['folder']}")
    report.lines.append(cause["text"])
