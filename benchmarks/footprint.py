"""What a model takes beside its runs.

    python -m benchmarks.footprint [--models NAME ...] [--runs 5] [--zoo DIR] [--resume]

Seconds of `tilewright compile` (the whole command, unchecked) with an empty kernel cache and again
with what it left there; the size of the library over that of the weights, and below -O3; loading
and the peak of memory (VmHWM) of a fresh process that runs the model, beside the creation of an
ONNX Runtime session and its peak. Processes of the two take turns; medians of --runs.
Writes results/footprint.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.latency import earlier, write_inputs
from benchmarks.models import MODELS, OUTSIDE
from tilewright.compiler.sections import read_manifest

RUNS_OF_THE_MODEL = 3
NAME = "footprint"
# Each prints seconds from the file to a model that can be called, and the peak in kB after runs.
_OURS = """
import tilewright.compiler.runtime as runtime
start = time.perf_counter()
model = runtime.load(sys.argv[1], 1)
seconds = time.perf_counter() - start
run = lambda: model(feed)
"""
_THEIRS = """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
start = time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
seconds = time.perf_counter() - start
run = lambda: session.run(None, feed)
"""
_FRAME = """
import json, sys, time
import numpy as np
feed = dict(np.load(sys.argv[2]))
{engine}
for _ in range({runs}):
    run()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, int(peak.split()[1]) * 1024]))
"""


def main(words: Sequence[str] | None = None) -> int:
    """Measure the models named on the command line, the latency benchmark's by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=[*MODELS, *OUTSIDE])
    parser.add_argument("--runs", type=int, default=5)
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    parser.add_argument("--resume", action="store_true", help="leave out what is measured already")
    parser.add_argument("--output", default=NAME, help="name of the results file")
    arguments = parser.parse_args(words)
    rows = earlier(arguments.output) if arguments.resume else {}
    for name in arguments.models:
        if name in rows:
            continue
        rows[name] = measure(name, arguments.zoo / "models" / f"{name}.onnx", arguments.runs)
        machine.write(arguments.output, {"runs": arguments.runs, "models": rows})
        print(f"{name}: {_line(rows[name])}", file=sys.stderr)
    print_table(rows)
    print(f"raw figures in {machine.RESULTS / arguments.output}.json")
    return 0


def measure(name: str, model: Path, runs: int) -> dict[str, Any]:
    """Everything about one model."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        library, exact, feed = folder / "model.so", folder / "exact.so", folder / "feed.npz"
        environment = {**os.environ, "XDG_CACHE_HOME": text}
        seconds = [_compile(name, model, library, environment, "-O3") for _ in range(2)]
        _compile(name, model, exact, environment, "-O2")
        write_inputs(name, library, feed)
        found: dict[str, list[list[float]]] = {"ours": [], "onnxruntime": []}
        for _ in range(runs):
            found["ours"].append(_in_process(_OURS, library, feed))
            found["onnxruntime"].append(_in_process(_THEIRS, model, feed))
        manifest = read_manifest(exact)
        return {
            "compile_seconds": seconds[0],
            "compile_again_seconds": seconds[1],
            "library_bytes": library.stat().st_size,
            "exact_library_bytes": exact.stat().st_size,
            "weights_bytes": manifest["weights"]["bytes"],
            **{engine: _medians(pairs) for engine, pairs in found.items()},
        }


def _compile(
    name: str, model: Path, library: Path, environment: dict[str, str], level: str
) -> float:
    shapes = [
        f"--shape={key}={','.join(map(str, shape))}" for key, shape in MODELS.get(name, {}).items()
    ]
    command = [str(Path(sys.executable).with_name("tilewright")), "compile", str(model), level]
    command += ["--no-db", "--no-verify", "--quiet", "-o", str(library), *shapes]
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _in_process(engine: str, file: Path, feed: Path) -> list[float]:
    code = _FRAME.format(engine=engine, runs=RUNS_OF_THE_MODEL)
    command = [sys.executable, "-c", code, str(file), str(feed)]
    return json.loads(subprocess.check_output(command, text=True))


def _medians(pairs: list[list[float]]) -> dict[str, float]:
    seconds, peaks = zip(*pairs, strict=True)
    return {"load_seconds": statistics.median(seconds), "peak_bytes": statistics.median(peaks)}


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each model."""
    table = Table(box=box.SIMPLE_HEAD)
    titles = ("model", "compile s", "again s", ".so MB", "/ weights", "-O2 over weights MB")
    for title in (*titles, "load ms", "ORT ms", "peak MB", "ORT MB"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in rows.items():
        table.add_row(name, *_cells(row))
    Console(width=150).print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    weights, ours, theirs = row["weights_bytes"], row["ours"], row["onnxruntime"]
    return [
        f"{row['compile_seconds']:.1f}",
        f"{row['compile_again_seconds']:.1f}",
        f"{row['library_bytes'] / 1e6:.1f}",
        f"{row['library_bytes'] / weights:.2f}",
        f"{(row['exact_library_bytes'] - weights) / 1e6:.2f}",
        f"{ours['load_seconds'] * 1e3:.0f}",
        f"{theirs['load_seconds'] * 1e3:.0f}",
        f"{ours['peak_bytes'] / 1e6:.0f}",
        f"{theirs['peak_bytes'] / 1e6:.0f}",
    ]


def _line(row: dict[str, Any]) -> str:
    return ", ".join(_cells(row))


if __name__ == "__main__":
    sys.exit(main())
