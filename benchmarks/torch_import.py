"""Two roads from a program of PyTorch's to a library: through ONNX, or Relax's own front end.

    python -m benchmarks.torch_import [--programs NAME ...] [--folder DIR] [--seconds 6] [--resume]

Needs PyTorch: an environment with `tilewright[torch]` and what tools/README.md lists for the
development models. Each program (benchmarks/torch_programs.py) is exported once (torch.export) and
compiled twice. One road is that of `tilewright compile`: torch.onnx.export, normalisation, our
importer. On the other, tvm.relax.frontend.torch.from_exported_program makes the Relax module, as
it comes; every later stage is the same. Counted are the operators that a road imports, those left
when constants, norms and duplicates are folded, our groups, and kernel calls of a run. The
libraries then take turns (benchmarks/turns.py), and both answers are compared with PyTorch's.
Writes results/torch_import.json after each program. --folder keeps programs and libraries and takes
what is in it; --seconds 0 measures nothing; --resume leaves out what has been measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import latency, machine, turns
from benchmarks.turns import Engine
from tilewright.compiler import child
from tilewright.compiler.child import Emit

NAME = "torch_import"
_JOBS = f"benchmarks.{NAME}"
ONNX, RELAX = "onnx", "relax"


def main(words: Sequence[str] | None = None) -> int:
    """Run the programs named on the command line, all of them by default."""
    from benchmarks.torch_programs import NAMES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each program's measurement")
    parser.add_argument("--folder", type=Path, help="keeps what is made")
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    parser.add_argument("--resume", action="store_true", help="leave out what is measured already")
    arguments = parser.parse_args(words)
    rows = latency.earlier(NAME) if arguments.resume else {}
    with contextlib.ExitStack() as stack:
        folder = arguments.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.programs:
            if name in rows:
                continue
            roads = build(name, arguments.zoo, folder)
            print(f"{name}: built", file=sys.stderr)
            if arguments.seconds:
                found = measure(name, roads, folder, arguments.threads, arguments.seconds)
                rows[name] = {"roads": roads, **found}
                machine.write(NAME, {"seconds": arguments.seconds, "models": rows})
    print_table(rows)
    return 0


def build(name: str, zoo: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """What each road makes of a program: counts, or the error that ended it."""
    kept = folder / f"{name}.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    child.call(f"{_JOBS}:save_job", {"name": name, "zoo": str(zoo), "folder": str(folder)})
    roads = {}
    for road in (ONNX, RELAX):
        job = {"name": name, "road": road, "folder": str(folder)}
        try:
            roads[road] = child.call(f"{_JOBS}:build_job", job)
        except tilewright.TilewrightError as error:
            roads[road] = {"error": str(error)[:400]}
    kept.write_text(json.dumps(roads))
    return roads


def save_job(job: dict[str, Any], _emit: Emit) -> None:
    """Write a program and its arrays, in a process of its own."""
    from benchmarks import torch_programs

    torch_programs.save(job["name"], Path(job["zoo"]), Path(job["folder"]))


def build_job(job: dict[str, Any], _emit: Emit) -> dict[str, Any]:
    """The pipeline with the import of one road; NAME-ROAD.so lies in the folder afterwards."""
    from tilewright.compiler import pipeline
    from tilewright.compiler.kernel_cache import KernelCache, default_folder
    from tilewright.compiler.manifest import interface
    from tilewright.options import CompileOptions
    from tilewright.targets import resolve

    sys.setrecursionlimit(20_000)
    folder, counts, stage = Path(job["folder"]), {}, None
    program = folder / f"{job['name']}.pt2"
    with tempfile.TemporaryDirectory() as place:
        work = pipeline.Work(program, resolve("native"), CompileOptions(), {}, Path(place))
        work.cache = KernelCache(default_folder())
        try:
            for stage in pipeline.chosen_stages(work.options):
                if stage.name == "import" and job["road"] == RELAX:
                    begin = time.perf_counter()
                    work.mod = _from_relax_front_end(program)
                    counts["seconds"] = time.perf_counter() - begin
                    # Names are those of the ONNX file: of the same program, in the same order.
                    work.interface, work.model.weights = interface(work), {}
                else:
                    stage.run(work)
                if stage.name in ("import", "clean_up"):
                    counts[stage.name] = _calls(work.mod)
        except Exception as error:
            text = " ".join(str(error).split())
            # TVM's errors begin with a trace or a definition, and end with what is wrong.
            text = text if len(text) < 200 else f"... {text[-200:]}"
            return {**counts, "error": f"{stage.name}: {type(error).__name__}: {text}"}
        work.library.rename(folder / f"{job['name']}-{job['road']}.so")
    groups = Counter(group.fusion for group in work.fusions.groups)
    return {**counts, "groups": dict(groups), "kernels": len(work.kernels)}


def _from_relax_front_end(program: Path) -> Any:
    import torch
    from tvm import relax
    from tvm.relax.frontend.torch import from_exported_program

    mod = from_exported_program(torch.export.load(program), unwrap_unit_return_tuple=True)
    return relax.transform.DeadCodeElimination()(mod)


def _calls(mod: Any) -> int:
    from tvm import relax

    bindings = (b for block in mod["main"].body.blocks for b in block.bindings)
    return sum(isinstance(binding.value, relax.Call) for binding in bindings)


def measure(
    name: str, roads: dict[str, dict[str, Any]], folder: Path, threads: int, seconds: float
) -> dict[str, Any]:
    """The error of each road's library against PyTorch, and their times in turns."""
    built = [road for road in roads if "error" not in roads[road]]
    libraries = {road: folder / f"{name}-{road}.so" for road in built}
    feed = folder / f"{name}-feed.npz"
    job = {"name": name, "folder": str(folder), "feed": str(feed), "threads": threads}
    errors = {}
    for road, library in libraries.items():
        job["library"] = str(library)
        try:
            errors[road] = child.call(f"{_JOBS}:error_job", job, doing="measuring")
        except tilewright.TilewrightError as error:
            errors[road] = str(error)[:300]
    ran = [road for road in built if not isinstance(errors[road], str)]
    if not ran:
        return {"errors": errors, "run": None}
    engines = [Engine(road, latency.OURS, str(libraries[road])) for road in ran]
    return {"errors": errors, "run": turns.measure(engines, feed, threads, seconds)}


def error_job(job: dict[str, Any], _emit: Emit) -> float:
    """The largest difference from PyTorch's answers, in parts of the largest value of an output."""
    from tilewright.compiler import runtime

    start = Path(job["folder"]) / job["name"]
    inputs, answers = (
        list(np.load(f"{start}-{kind}.npz").values()) for kind in ("inputs", "answers")
    )
    module = runtime.load(job["library"], job["threads"])
    given = {spec.name: array for spec, array in zip(module.inputs, inputs, strict=True)}
    np.savez(job["feed"], **given)
    ours = module(given)
    ours = ours if isinstance(ours, tuple) else (ours,)
    worst = 0.0
    for y, expected in zip(ours, answers, strict=True):
        if y.shape != expected.shape:
            raise ValueError(f"an output has the shape {y.shape} and not {expected.shape}")
        top = max(float(np.abs(expected).max()), 1e-30)
        worst = max(worst, float(np.abs(y.astype(float) - expected.astype(float)).max()) / top)
    return worst


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each program: through ONNX, and through Relax's front end."""
    table = Table(box=box.SIMPLE_HEAD)
    titles = ("program", "operators", "folded", "kernels", "ms", "relax: operators", "folded")
    for title in (*titles, "kernels", "ms", "relax/onnx", "95%", "failed"):
        table.add_column(title, justify="left" if title in ("program", "failed") else "right")
    for name, row in rows.items():
        cells, run = [name], row["run"] or {"engines": {}, "ratios": {}}
        for road, facts in row["roads"].items():
            cells += [str(facts.get(key, "")) for key in ("import", "clean_up", "kernels")]
            spread = run["engines"].get(road)
            cells.append(f"{spread['median'] * 1e3:.3f}" if spread else "")
        ratio = run["ratios"].get(RELAX)
        interval = f"{ratio['low']:.2f} .. {ratio['high']:.2f}" if ratio else ""
        cells += [f"{ratio['median']:.2f}" if ratio else "", interval]
        failed = [
            f"{road}: {facts['error']}" for road, facts in row["roads"].items() if "error" in facts
        ]
        failed += [f"{road}: {e}" for road, e in row["errors"].items() if isinstance(e, str)]
        table.add_row(*cells, "; ".join(failed)[:80])
    Console(width=200).print(table)


if __name__ == "__main__":
    sys.exit(main())
