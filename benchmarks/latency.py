"""Latency of the development models beside ONNX Runtime's and OpenVINO's, without any tuning.

    python -m benchmarks.latency [--models NAME ...] [--threads 1 2] [--seconds 20] [--resume]

Each model runs in a process of its own for each number of threads, where the engines take turns
(benchmarks/turns.py). Beside each model stands its own limit: the operations of its ONNX graph over
the peak of multiply-adds measured in the same process. Writes results/latency.json after each
model; --resume leaves out what is in it. Make the models first with `python -m tools.zoo`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import machine, turns
from benchmarks.feeds import FEEDS
from benchmarks.models import MODELS, OUTSIDE
from benchmarks.turns import Engine
from tilewright.analysis.latency import job_inputs

OURS, PEERS = "tilewright", ("onnxruntime", "openvino")
NAME = "latency"

Rows = dict[str, dict[str, Any]]


def main(words: Sequence[str] | None = None) -> int:
    """Run the models named on the command line, all of them by default."""
    arguments = parser(__doc__).parse_args(words)
    rows = earlier(arguments.output) if arguments.resume else {}
    for name in arguments.models:
        wanted = [n for n in arguments.threads if str(n) not in rows.get(name, {}).get("runs", {})]
        if not wanted:
            continue
        found = measure(name, arguments.zoo / "models" / f"{name}.onnx", wanted, arguments.seconds)
        found["runs"] = {**rows.get(name, {}).get("runs", {}), **found["runs"]}
        rows[name] = found
        data = {"seconds": arguments.seconds, "models": rows, "summary": summary(rows)}
        machine.write(arguments.output, data)
        print(f"{name}: {found.get('error') or _short(found)}", file=sys.stderr)
    print_table(rows)
    print(f"raw figures in {machine.RESULTS / arguments.output}.json")
    return 0 if all("error" not in row for row in rows.values()) else 1


def parser(text: str) -> argparse.ArgumentParser:
    """The flags of this benchmark and of those like it."""
    made = argparse.ArgumentParser(description=text)
    made.add_argument("--models", nargs="+", default=list(MODELS), choices=[*MODELS, *OUTSIDE])
    made.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    made.add_argument("--seconds", type=float, default=20.0, help="per model and threads")
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    made.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    made.add_argument("--resume", action="store_true", help="leave out what is measured already")
    made.add_argument("--output", default=NAME, help="name of the results file")
    return made


def earlier(output: str) -> Rows:
    """The models that results/OUTPUT.json has figures of."""
    path = machine.RESULTS / f"{output}.json"
    rows = json.loads(path.read_text())["models"] if path.is_file() else {}
    return {name: row for name, row in rows.items() if "error" not in row}


def measure(name: str, model: Path, threads: Sequence[int], seconds: float) -> dict[str, Any]:
    """Everything about one model, or the error that stopped it."""
    shapes = MODELS.get(name, {})
    with tempfile.TemporaryDirectory() as folder:
        library, feed = Path(folder) / "model.so", Path(folder) / "feed.npz"
        start = time.perf_counter()
        try:
            tilewright.compile(model, shapes=shapes, check=False, db=False).save(library)
            compiled = time.perf_counter() - start
            write_inputs(name, library, feed)
            engines = [Engine(OURS, OURS, str(library))]
            engines += [Engine(p, p, str(model)) for p in PEERS if find_spec(p) is not None]
            runs = {str(n): turns.measure(engines, feed, n, seconds) for n in threads}
            flops = tilewright.analyze(model, shapes=shapes)["flops"]
        except tilewright.TilewrightError as error:
            return {"runs": {}, "error": str(error)}
    for run in runs.values():
        run["limit"] = flops / run["peak"]
    return {"compile_seconds": compiled, "flops": flops, "runs": runs}


def write_inputs(name: str, library: Path, feed: Path) -> None:
    """The model's inputs as an .npz file: its entry in FEEDS, else random ones."""
    inputs = FEEDS[name]() if name in FEEDS else None
    if inputs is None:
        inputs = job_inputs({"library": str(library), "inputs": [], "seed": 0})
    np.savez(feed, **inputs)


def summary(rows: Rows) -> dict[str, dict[str, Any]]:
    """For each number of threads and each peer: geometric mean, least ratio and whose it is."""
    found: dict[str, dict[str, Any]] = {}
    threads = sorted({n for row in rows.values() for n in row["runs"]}, key=int)
    for number in threads:
        for peer in PEERS:
            ratios = {
                name: row["runs"][number]["ratios"][peer]
                for name, row in rows.items()
                if peer in row["runs"].get(number, {}).get("ratios", {})
            }
            if not ratios:
                continue
            least = min(ratios, key=lambda name: ratios[name]["median"])
            found.setdefault(number, {})[peer] = {
                "models": len(ratios),
                "geometric_mean": turns.geometric_mean([r["median"] for r in ratios.values()]),
                "least": ratios[least],
                "least_model": least,
            }
    return found


def print_table(rows: Rows) -> None:
    """One line for each model and number of threads, then the means."""
    table = Table(box=box.SIMPLE_HEAD)
    titles = ("model", "threads", "ms", "quartiles", "limit ms", "ORT ms", "ORT/ours", "95%")
    for title in (*titles, "OpenVINO ms", "OpenVINO/ours", "95%"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in rows.items():
        if "error" in row:
            table.add_row(name, "", row["error"][:80])
        for number, run in row["runs"].items():
            ours = run["engines"][OURS]
            cells = [name, number, _ms(ours["median"])]
            cells += [f"{_ms(ours['q25'])} .. {_ms(ours['q75'])}", _ms(run["limit"])]
            table.add_row(*cells, *(cell for peer in PEERS for cell in _peer(run, peer)))
    Console(width=170).print(table)
    for number, peers in summary(rows).items():
        for peer, found in peers.items():
            print(
                f"{number} threads, {found['models']} models: geometric mean {peer}/ours "
                f"{found['geometric_mean']:.3f}, least {found['least']['median']:.3f} "
                f"({found['least_model']})"
            )


def _peer(run: dict[str, Any], peer: str) -> tuple[str, str, str]:
    if peer not in run["ratios"]:
        return ("", "", "")
    ratio = run["ratios"][peer]
    interval = f"{ratio['low']:.2f} .. {ratio['high']:.2f}"
    return _ms(run["engines"][peer]["median"]), f"{ratio['median']:.2f}", interval


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def _short(row: dict[str, Any]) -> str:
    return ", ".join(
        f"{number} threads: ORT/ours {run['ratios'][PEERS[0]]['median']:.2f}"
        for number, run in row["runs"].items()
        if PEERS[0] in run["ratios"]
    )


if __name__ == "__main__":
    sys.exit(main())
