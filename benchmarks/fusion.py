"""What fusion finds in the development models, and that it changes no result.

    python -m benchmarks.fusion [NAME ...] [--zoo DIR]

For each model: the groups found and their coverage; then the model compiled with all fusions
and with none, both against ONNX Runtime; then each fusion alone on the two smallest models in
which it fires. Nothing is timed. Writes results/fusion.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import machine
from benchmarks.feeds import FEEDS
from benchmarks.models import MODELS

# The models of the other benchmarks, and the exports of which sizes are open.
OPEN = (
    *("bert_base_dyn", "resnet50_dynbatch"),
    *("trained_minilm_l6_dyn", "whisper_tiny_encoder_dyn"),
)
EXPORTS = {**MODELS, **{name: {} for name in OPEN}}
NAMES = tuple(fusion.name for fusion in tilewright.DEFAULT_FUSIONS)


def main() -> int:
    """Run the models named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(EXPORTS)}")
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    arguments = parser.parse_args()
    names = arguments.names or list(EXPORTS)
    paths = {name: arguments.zoo / "models" / f"{name}.onnx" for name in names}
    rows = {}
    for name, path in paths.items():
        rows[name] = look(name, path)
        print(f"{name}: {rows[name]['checks']}", file=sys.stderr)
    alone = each_alone(rows, paths)
    path = machine.write("fusion", {"models": rows, "alone": alone})
    print_table(rows)
    checks = [check for row in rows.values() for check in row["checks"].values()]
    checks += [check for found in alone.values() for check in found.values()]
    right = sum(check["passed"] for check in checks)
    print(f"{right} of {len(checks)} comparisons right; raw figures in {path}")
    return 0 if right == len(checks) else 1


def look(name: str, path: Path) -> dict[str, Any]:
    """Groups and coverage of a model, and its numbers with all fusions and with none."""
    report = tilewright.analyze(path, shapes=EXPORTS[name])
    keys = ("coverage", "operators_before", "operators_after", "traffic_reduction", "flops")
    return {
        **{key: report[key] for key in keys},
        "groups": dict(Counter(group["fusion"] for group in report["groups"])),
        "operators": operators(report),
        "steps": dict(Counter(step for g in report["groups"] for step in steps(g["spec"]))),
        "blocks": report["blocks"],
        "near_misses": len(report["near_misses"]),
        "bytes_on_disk": path.stat().st_size,
        "checks": {
            "all": compare(name, path, tilewright.CompileOptions()),
            "none": compare(name, path, tilewright.CompileOptions(disable=NAMES)),
        },
    }


def operators(report: dict[str, Any]) -> dict[str, list[int]]:
    """Each kind of operator: how many are in groups or folded, and how many there are."""
    kinds = Counter(name.rpartition("(")[2].rstrip(")") for name in report["order"])
    left = Counter(leftover["operator"] for leftover in report["leftovers"])
    return {kind: [count - left[kind], count] for kind, count in kinds.items()}


def steps(spec: dict[str, Any]) -> list[str]:
    """The steps of every epilogue in a spec, without their numbers."""
    found = [step.partition("(")[0] for step in spec.get("epilogue", ())]
    parts = [value for value in spec.values() if isinstance(value, dict)]
    for several in ("parts", "before"):
        parts += [part for part in spec.get(several, ()) if isinstance(part, dict)]
    return found + [step for part in parts for step in steps(part)]


def each_alone(rows: dict[str, Any], paths: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Each fusion without the others, on the two smallest models in which it fires."""
    found: dict[str, dict[str, Any]] = {}
    for fusion in NAMES:
        firing = [name for name, row in rows.items() if fusion in row["groups"]]
        smallest = sorted(firing, key=lambda name: rows[name]["bytes_on_disk"])[:2]
        options = tilewright.CompileOptions(only=(fusion,))
        found[fusion] = {name: compare(name, paths[name], options) for name in smallest}
        print(f"{fusion} alone: {found[fusion]}", file=sys.stderr)
    return found


def compare(name: str, path: Path, options: tilewright.CompileOptions) -> dict[str, Any]:
    """Compile with `options` and compare with ONNX Runtime; the error as share of the budget."""
    inputs = []
    with tempfile.TemporaryDirectory() as folder:
        if name in FEEDS:
            feed = Path(folder) / "feed.npz"
            np.savez(feed, **FEEDS[name]())
            inputs = [str(feed)]
        try:
            report = tilewright.verify(path, shapes=EXPORTS[name], options=options, inputs=inputs)
        except tilewright.TilewrightError as error:
            return {"passed": False, "error": str(error)}
    return {"passed": report.passed, "budget_used": report.used}


def print_table(rows: dict[str, Any]) -> None:
    """One line a model."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("model", "operators", "in groups", "FLOPs", "bytes", "traffic", "groups found"):
        table.add_column(title)
    for name, row in rows.items():
        cover = row["coverage"]
        table.add_row(
            name,
            f"{row['operators_before']} -> {row['operators_after']}",
            f"{cover['operators']:.1%}",
            f"{cover['flops']:.1%}",
            f"{cover['bytes']:.1%}",
            f"{-row['traffic_reduction']:+.1%}",
            ", ".join(f"{count} {fusion}" for fusion, count in row["groups"].items()),
        )
    Console(width=170).print(table)


if __name__ == "__main__":
    sys.exit(main())
