"""Compile, run and check the development models: python -m benchmarks.models [NAME ...]

Each model is compiled by the `tilewright` command in a process of its own (its peak memory is
that of the largest process), then compared with ONNX Runtime and timed beside it. Make the
models first with `python -m tools.zoo`. Writes results/models.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import machine
from benchmarks.feeds import FEEDS

# Model and the shapes it is compiled for; the others are static as exported.
MODELS: dict[str, dict[str, tuple[int, ...]]] = {
    "resnet50": {},
    "resnet50_bnkeep": {},
    "mobilenetv2_100": {},
    "efficientnet_b0": {},
    "efficientnet_b0_bnkeep": {},
    "convnext_tiny": {},
    "deit_tiny_patch16_224": {},
    "vit_base_patch16_224": {},
    "bert_base_s128": {},
    "llama_4l512_s64": {},
    "trained_minilm_l6_s128": {},
    "trained_whisper_tiny_en_encoder": {},
    "trained_whisper_tiny_en_decoder_s32": {},
    "unet_convtranspose_256": {},
    "trained_ppocr_cls": {"x": (1, 3, 48, 192)},
    "trained_ppocrv4_det": {"x": (1, 3, 640, 640)},
}
# Kinds of graphs that nothing was developed on when they were first measured, which is what users'
# own models meet. Since then a concat was mended for the first and transposes for the third.
OUTSIDE = (
    *("densenet121", "regnety_008", "mixer_s16_224"),
    *("mobilenetv3_large_100", "resnext50_32x4d", "swin_tiny_patch4_window7_224"),
)


def main() -> int:
    """Run the models named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(MODELS)}")
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured per model")
    parser.add_argument("--output", default="models", help="name of the results file")
    arguments = parser.parse_args()
    rows = {}
    for name in arguments.names or MODELS:
        rows[name] = measure(name, arguments)
        print(f"{name}: {rows[name].get('error') or _short(rows[name])}", file=sys.stderr)
    data = {"threads": arguments.threads, "models": rows}
    path = machine.write(arguments.output, data)
    print_table(rows)
    right = sum(row.get("right", False) for row in rows.values())
    print(f"{right} of {len(rows)} right; raw figures in {path}")
    return 0 if right == len(rows) else 1


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one model, or the error that stopped it."""
    model = arguments.zoo / "models" / f"{name}.onnx"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "model.so"
        row = compile_alone(model, MODELS[name], library)
        if "error" in row:
            return row
        inputs = []
        if name in FEEDS:
            feed = Path(folder) / "feed.npz"
            np.savez(feed, **FEEDS[name]())
            inputs = [str(feed)]
        try:
            report = tilewright.verify(library, model=model, inputs=inputs)
            found = tilewright.bench(
                library,
                model=model,
                inputs=inputs,
                threads=arguments.threads,
                seconds=arguments.seconds,
            )
        except tilewright.TilewrightError as error:
            return {**row, "error": str(error)}
        manifest = tilewright.load(library).manifest
        return {
            **row,
            "right": report.passed,
            "error_share": report.used,
            "check": report.to_dict(),
            "weight_bytes": manifest["weights"]["bytes"],
            "library_bytes": library.stat().st_size,
            "model_bytes": model.stat().st_size,
            "latency": found,
        }


def compile_alone(model: Path, shapes: dict[str, tuple[int, ...]], library: Path) -> dict[str, Any]:
    """Compile in a process of its own: seconds per stage, and peak memory in bytes."""
    flags = [f"--shape={name}={','.join(map(str, s))}" for name, s in shapes.items()]
    command = [str(Path(sys.executable).with_name("tilewright")), "compile", "--no-db", str(model)]
    # What a compilation takes is what it takes without the one before.
    command.append("--no-cache")
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--no-verify", *flags, "-o", str(library)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        return {"error": log.strip()[-600:]}
    stages = {}
    for line in log.splitlines():
        words = line.split()
        if len(words) > 2 and words[2] == "s":
            stages[words[0]] = float(words[1])
    peak = usage.ru_maxrss * 1024
    return {"compile_seconds": seconds, "stages": stages, "compile_peak_bytes": peak}


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """The table of the README: one line a model."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in (
        "model",
        "right",
        "budget used",
        "import s",
        "compile s",
        "peak MB",
        ".so MB",
        "weights MB",
        "load ms",
        "run ms",
        "ORT ms",
        "ORT/ours",
        "run peak MB",
        "ORT peak MB",
    ):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in rows.items():
        if "latency" not in row:
            table.add_row(name, "NO", row["error"][:80])
            continue
        ours = row["latency"]["engines"]["tilewright"]
        ort = row["latency"]["engines"]["onnxruntime"]
        table.add_row(
            name,
            "yes" if row["right"] else "NO",
            f"{row['error_share']:.0%}",
            f"{sum(row['stages'][s] for s in ('load', 'normalise', 'import')):.1f}",
            f"{row['compile_seconds']:.1f}",
            f"{row['compile_peak_bytes'] / 1e6:.0f}",
            f"{row['library_bytes'] / 1e6:.1f}",
            f"{row['weight_bytes'] / 1e6:.1f}",
            f"{ours['load'] * 1e3:.0f}",
            f"{ours['median'] * 1e3:.1f}",
            f"{ort['median'] * 1e3:.1f}",
            f"{row['latency']['ratio']['median']:.2f}",
            f"{ours['peak_bytes'] / 1e6:.0f}",
            f"{ort['peak_bytes'] / 1e6:.0f}",
        )
    Console(width=170).print(table)


def _short(row: dict[str, Any]) -> str:
    verdict = "right" if row["right"] else "WRONG"
    ratio = row["latency"]["ratio"]["median"]
    return f"{verdict}, compiled in {row['compile_seconds']:.1f} s, ORT/ours {ratio:.2f}"


if __name__ == "__main__":
    sys.exit(main())
