"""tilewright inspect MODEL.onnx|ARTIFACT"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.cli import flags
from tilewright.cli.report import Report, bytes_text


@click.command("inspect")
@click.argument("subject", type=click.Path(path_type=Path), metavar="MODEL.onnx|ARTIFACT|BUNDLE")
@flags.shapes
@flags.reporting
@flags.everywhere
def command(
    subject: Path,
    shapes: dict,
    dims: dict,
    json_to: str | None,
    html_to: Path | None,
    **_everywhere: Any,
) -> int:
    """Show inputs, outputs, sizes, and what a model or artifact is made of."""
    from tilewright import api
    from tilewright.compiler.artifact import library_of

    subject = library_of(subject)
    report = _artifact(subject) if api.is_artifact(subject) else _model(subject, shapes, dims)
    report.emit(json_to, html_to)
    return 0


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
    _add_interface(report, manifest["inputs"], manifest["outputs"])
    rows = [[kernel["name"], kernel["calls"]] for kernel in manifest["kernels"]]
    report.table(f"{len(rows)} kernels", ["kernel", "calls"], rows)
    return report


def _model(path: Path, shapes: dict, dims: dict) -> Report:
    from tilewright.compiler import child

    job = {"path": str(path), "shapes": shapes, "dims": dims}
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
    _add_interface(report, facts["inputs"], facts["outputs"])
    rows = [[op["name"], op["nodes"], "yes" if op["supported"] else "NO"] for op in facts["ops"]]
    report.table(
        f"{len(rows)} operators after normalisation", ["operator", "nodes", "supported"], rows
    )
    return report


def _add_interface(report: Report, inputs: list[dict[str, Any]], outputs: list[dict]) -> None:
    rows = [["input", r["name"], r["dtype"], r["shape"]] for r in inputs]
    rows += [["output", r["name"], r["dtype"], r["shape"]] for r in outputs]
    report.table("interface", ["", "name", "dtype", "shape"], rows)
