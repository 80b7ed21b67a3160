"""tilewright inspect MODEL.onnx|ARTIFACT|BUNDLE|REPORT.json"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.cli import flags
from tilewright.cli.fusion_tables import add_comparison, add_fusions
from tilewright.cli.report import Report, bytes_text, interface_table
from tilewright.cli.two_models import Settings, read_report, settings_of
from tilewright.errors import OptionError, UnsupportedModel
from tilewright.options import CompileOptions


@click.command("inspect")
@click.argument("subject", type=click.Path(path_type=Path), metavar="SUBJECT")
@click.option(
    "--max-nodes",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="Boxes and lines of the drawing.",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="MODEL.onnx|REPORT.json",
    help="Set another model, or what an earlier --json wrote, beside this one.",
)
@flags.compiling
@flags.reporting
@flags.everywhere
def command(
    subject: Path,
    max_nodes: int,
    compare: Path | None,
    target: str,
    shapes: dict,
    options: CompileOptions,
    json_to: str | None,
    html_to: Path | None,
    **_everywhere: Any,
) -> int:
    """Show what is in a model or an artifact, and what fusion makes of a model.

    SUBJECT is a model, a compiled .so, a bundle's folder, or the file of an earlier --json.
    For a model: every fused group with its ONNX nodes, what stayed alone and why, and what
    almost matched. Nothing is compiled.
    """
    from tilewright import api
    from tilewright.compiler.artifact import library_of

    subject = library_of(subject)
    saved = subject.suffix == ".json"
    if not saved and api.is_artifact(subject):
        api.refuse_compile_flags(subject, target, shapes, options)
        if compare is not None:
            raise OptionError("--compare compares models", where=str(subject))
        report = _artifact(subject)
    else:
        subjects = [subject, compare] if compare else [subject]
        settings = settings_of(subjects, target, shapes, options)
        if saved:
            report = _saved(subject, max_nodes)
        else:
            report = _model(subject, target, *settings[subject], max_nodes)
        if compare is not None:
            add_comparison(report, report.data["fusion"], _other(compare, target, settings))
    report.emit(json_to, html_to)
    return 0


def _saved(path: Path, max_nodes: int) -> Report:
    fusion = read_report(path)
    model = fusion["model"] if fusion else "a model"
    report = Report(f"{model}, from {path.name}", {"fusion": fusion})
    if fusion is None:
        report.lines.append("no fusion report: the model has an operator that cannot be compiled")
    else:
        add_fusions(report, fusion, max_nodes)
    return report


def _artifact(path: Path) -> Report:
    from tilewright.compiler.sections import read_manifest

    manifest = read_manifest(path)
    size = path.stat().st_size
    report = Report(f"artifact {path.name}", {**manifest, "size_bytes": size})
    facts = {
        "model": f"{manifest['model']['file']}, opset {manifest['model']['opset']}",
        "target": f"{manifest['target']['name']}: {manifest['target']['title']}",
        "needs": f"{manifest['needs']['machine']}, {' '.join(manifest['needs']['features'])}",
        "threads": manifest["threads"] or "as many as the loading process may use",
        "options": f"-O{manifest['options']['opt_level']}",
        "versions": ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()),
        "size": f"{bytes_text(size)}, of it weights {bytes_text(manifest['weights']['bytes'])}",
    }
    report.table("", ["fact", "value"], [[k, v] for k, v in facts.items()])
    interface_table(report, manifest["inputs"], manifest["outputs"])
    rows = [
        [kernel["name"], kernel["calls"], kernel["fusion"] or "", _nodes_text(kernel["nodes"])]
        for kernel in manifest["kernels"]
    ]
    report.table(f"{len(rows)} kernels", ["kernel", "calls", "fusion", "nodes"], rows)
    return report


def _nodes_text(calls: list[list[str]]) -> str:
    """The nodes of a kernel's first call, and how many more there are."""
    if not calls:
        return ""
    return ", ".join(calls[0]) + (f"; {len(calls) - 1} more times" if calls[1:] else "")


def _model(
    path: Path, target: str, shapes: dict, options: CompileOptions, max_nodes: int
) -> Report:
    from tilewright import api
    from tilewright.compiler import child

    job = {"path": str(path), "shapes": shapes, "dims": options.to_dict()["dims"]}
    facts = child.call("tilewright.analysis.inspect_job:inspect_job", job, doing="inspecting")
    report = Report(f"model {path.name}", facts)
    shown = {
        "opset": facts["opset"],
        "nodes": f"{facts['nodes']}, {facts['normalised_nodes']} after normalisation",
        "weights": f"{facts['parameters'] / 1e6:.2f} M, {bytes_text(facts['weight_bytes'])}",
        "open dimensions": ", ".join(f"{k} in {a}..{b}" for k, (a, b) in facts["dims"].items())
        or "none",
        "SHA-256": facts["sha256"],
    }
    report.table("", ["fact", "value"], [[k, v] for k, v in shown.items()])
    interface_table(report, facts["inputs"], facts["outputs"])
    try:
        fusion = api.analyze(path, target, shapes, options)
    except UnsupportedModel as error:
        report.data["fusion"] = None
        report.lines.append(f"no fusion report: {error}")
        report.lines.append(f"`tilewright preflight {path}` lists all that stands in the way")
    else:
        report.data["fusion"] = fusion
        add_fusions(report, fusion, max_nodes)
    return report


def _other(path: Path, target: str, settings: Settings) -> dict[str, Any]:
    """The fusion part of an earlier report, or of another model."""
    from tilewright import api

    if path.suffix == ".json":
        return read_report(path)
    try:
        return api.analyze(path, target, *settings[path])
    except OptionError as error:
        error.where = error.where or str(path)
        raise
