"""Standalone libraries beside those of TVM's runtime: what a run and loading take.

    python -m benchmarks.standalone [--models NAME ...] [--threads 1 2] [--seconds 15] [--zoo DIR]

Each model is compiled in both forms, whose kernels are the same, and both take turns
(benchmarks/turns.py). Loading is from the file to the first result, in fresh processes, in turns;
`needed` are the symbols that the standalone library asks others for. Writes
results/standalone.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import latency, machine, turns
from benchmarks.turns import Engine
from tilewright.options import CompileOptions

NAME = "standalone"
STANDALONE, VM = "standalone", "TVM's runtime"
MODELS = ("mobilenetv2_100", "trained_minilm_l6_s128", "trained_ppocr_cls")
LOADS = 7
_LOAD = """
import json, sys, time
import numpy as np
import tilewright.compiler.runtime as runtime
feed = dict(np.load(sys.argv[2]))
start = time.perf_counter()
runtime.load(sys.argv[1], 1)(feed)
print(json.dumps(time.perf_counter() - start))
"""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=15.0, help="per model and threads")
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    arguments = parser.parse_args(words)
    rows = {}
    for name in arguments.models:
        model = arguments.zoo / "models" / f"{name}.onnx"
        rows[name] = measure(name, model, arguments.threads, arguments.seconds)
        machine.write(NAME, {"seconds": arguments.seconds, "models": rows})
    print_table(rows)
    return 0


def measure(name: str, model: Path, threads: Sequence[int], seconds: float) -> dict[str, Any]:
    """Both forms of one model."""
    with tempfile.TemporaryDirectory() as folder:
        built = {}
        for kind, left_out in ((STANDALONE, ()), (VM, ("tables",))):
            built[kind] = Path(folder) / f"{'vm' if left_out else 'tables'}.so"
            options = CompileOptions(disable=left_out)
            tilewright.compile(model, options=options, check=False, db=False).save(built[kind])
        feed = Path(folder) / "feed.npz"
        latency.write_inputs(name, built[VM], feed)
        engines = [Engine(kind, latency.OURS, str(path)) for kind, path in built.items()]
        return {
            "runs": {str(n): turns.measure(engines, feed, n, seconds) for n in threads},
            "load": _loads(built, feed),
            "needed": needed_symbols(built[STANDALONE]),
        }


def needed_symbols(library: Path) -> list[str]:
    """What a library asks others for, each with its version."""
    done = subprocess.run(["nm", "-D", library], capture_output=True, text=True, check=True)
    return re.findall(r"^ +[Uw] (\S+)", done.stdout, re.MULTILINE)


def _loads(built: dict[str, Path], feed: Path) -> dict[str, float]:
    """Seconds of loading and a first run, medians of fresh processes that take turns."""
    times: dict[str, list[float]] = {kind: [] for kind in built}
    for _ in range(LOADS):
        for kind, path in built.items():
            command = [sys.executable, "-c", _LOAD, path, feed]
            times[kind].append(json.loads(subprocess.check_output(command, text=True)))
    return {kind: statistics.median(found) for kind, found in times.items()}


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each model and number of threads."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("model", "threads", "ms", "TVM's ms", "TVM's/ours", "95%", "load ms", "TVM's"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in rows.items():
        loads = [f"{row['load'][kind] * 1e3:.1f}" for kind in (STANDALONE, VM)]
        for number, run in row["runs"].items():
            ratio = run["ratios"][VM]
            medians = [f"{run['engines'][kind]['median'] * 1e3:.3f}" for kind in (STANDALONE, VM)]
            spread = f"{ratio['low']:.3f} .. {ratio['high']:.3f}"
            table.add_row(name, number, *medians, f"{ratio['median']:.3f}", spread, *loads)
    Console(width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
