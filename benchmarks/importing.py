"""What the import of a model takes: seconds and memory, for a real model and for long graphs.

    python -m benchmarks.importing [--models NAME ...] [--nodes N ...] [--runs 3] [--zoo DIR]

Reading the file, normalisation and the way into Relax, each timed in a fresh process, and the peak
of memory (VmHWM) above what the imported packages take, beside the size of the file. Generated
graphs are chains of residual blocks (MatMul, Add, Erf GELU, LayerNormalization written out) around
an open dimension: seconds per node say whether time grows with the number of nodes.
Medians of --runs. Writes results/importing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import machine

NAME = "importing"
STAGES = ("load", "normalise", "import")
NODES = (1_250, 2_500, 5_000, 10_000, 20_000)
WIDTH = 16
# Prints seconds by stage, the peak above the imported packages in bytes, and calls in Relax.
_PROGRAM = """
import json, sys, time
from pathlib import Path
import tilewright.compiler.pipeline as pipeline
from tilewright.options import CompileOptions
from tilewright.targets import resolve

def memory(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) * 1024

work = pipeline.Work(Path(sys.argv[1]), resolve("native"), CompileOptions(), {}, Path("."))
before = memory("VmRSS")
seconds = {}
for stage in pipeline.STAGES:
    if stage.name in ("load", "normalise", "import"):
        start = time.perf_counter()
        stage.run(work)
        seconds[stage.name] = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "memory": memory("VmHWM") - before, "nodes": work.nodes}))
"""


def main(words: Sequence[str] | None = None) -> int:
    """Measure the models and the generated graphs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["bert_base_dyn"])
    parser.add_argument("--nodes", nargs="*", type=int, default=list(NODES))
    parser.add_argument("--runs", type=int, default=3)
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    arguments = parser.parse_args(words)
    rows = {}
    for name in arguments.models:
        rows[name] = measure(arguments.zoo / "models" / f"{name}.onnx", arguments.runs)
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.nodes:
            path = Path(folder) / f"{count}.onnx"
            save(chain(count), path)
            rows[f"chain of {count}"] = measure(path, arguments.runs)
    print_table(rows)
    print(f"raw figures in {machine.write(NAME, {'runs': arguments.runs, 'models': rows})}")
    return 0


def measure(path: Path, runs: int) -> dict[str, Any]:
    """Medians over `runs` fresh processes."""
    found = []
    for _ in range(runs):
        command = [sys.executable, "-c", _PROGRAM, str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {
        "nodes": found[0]["nodes"],
        "file_bytes": path.stat().st_size,
        "memory_bytes": statistics.median(run["memory"] for run in found),
        "seconds": {
            stage: statistics.median(run["seconds"][stage] for run in found) for stage in STAGES
        },
        "runs": [sum(run["seconds"].values()) for run in found],
    }


def chain(nodes: int) -> Any:
    """A model of at least `nodes` nodes: residual blocks over x[n, 16], n open."""
    rng = np.random.default_rng(0)
    made: list[Any] = []
    constants = {"half": 0.5, "one": 1.0, "two": 2.0, "root": 2**0.5, "epsilon": 1e-5}
    weights = [_weight(name, np.float32(value)) for name, value in constants.items()]
    weights.append(numpy_helper.from_array(np.array([-1], np.int64), "last"))

    def add(operator: str, *inputs: str) -> str:
        name = f"{operator}_{len(made)}"
        made.append(helper.make_node(operator, inputs, [name], name=name))
        return name

    x = "x"
    while len(made) < nodes:
        matrix = _weight(f"w{len(made)}", rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5)
        bias = _weight(f"b{len(made)}", rng.standard_normal(WIDTH))
        weights += [matrix, bias]
        y = add("Add", add("MatMul", x, matrix.name), bias.name)
        y = add("Mul", add("Mul", y, add("Add", add("Erf", add("Div", y, "root")), "one")), "half")
        y = add("Add", x, y)
        centred = add("Sub", y, add("ReduceMean", y, "last"))
        variance = add("ReduceMean", add("Pow", centred, "two"), "last")
        x = add("Div", centred, add("Sqrt", add("Add", variance, "epsilon")))
    graph = helper.make_graph(
        made,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", WIDTH])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return model


def _weight(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """The figures as people read them."""
    table = Table(box=box.SIMPLE)
    for header in ("model", "nodes", *STAGES, "all", "us / node", "memory / file"):
        table.add_column(header, justify="left" if header == "model" else "right")
    for name, row in rows.items():
        whole = sum(row["seconds"].values())
        table.add_row(
            name,
            str(row["nodes"]),
            *(f"{row['seconds'][stage]:.2f} s" for stage in STAGES),
            f"{whole:.2f} s",
            f"{whole / row['nodes'] * 1e6:.0f}",
            f"{row['memory_bytes'] / row['file_bytes']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
