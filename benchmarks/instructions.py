"""Instructions that a run executes on an emulated board, for each multiply-add of the model.

    python -m benchmarks.instructions [--models NAME ...] [--targets rpi3 rpi4 rpi5] [--zoo DIR]
                                      [--root DIR] [--onnxruntime DIR]

A bundle's program runs under QEMU's user mode with a plugin that counts (of Debian's packages,
qemu-user can load one, qemu-user-static cannot): once, and once with more runs, so that loading
does not count. On one thread. The ideal has a quarter of an fmla for each multiply-add, and for
each 64 fmla the 12 loads that a tile of 8 rows and 2 vectors needs: 8 vectors of rows, and 4 pairs
of columns. It counts nothing for depthwise convolutions' loads, pools, activations, tails and
addresses. With --onnxruntime, ONNX Runtime's aarch64 build runs the same model in the same way,
for the same processor. Writes results/instructions.json.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import machine
from tilewright.options import CompileOptions
from tilewright.targets.toolchain import find_c_compiler

NAME = "instructions"
MODELS = ("mobilenetv2_100",)
TARGETS = ("rpi3", "rpi4", "rpi5")
ROOT = "/usr/aarch64-linux-gnu"
LANES = 4
LOADS_PER_FMLA = 12 / 64
MORE_RUNS = 3
# As QEMU calls the processors of the boards: ONNX Runtime chooses its kernels where it runs.
PROCESSORS = {"rpi3": "cortex-a53", "rpi4": "cortex-a72", "rpi5": "cortex-a76"}
# Runs a model a number of times on one thread, in the emulator.
ONNX_RUNTIME = """
import sys
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options)
feed = {x.name: np.zeros(x.shape, np.float32) for x in session.get_inputs()}
for _ in range(int(sys.argv[2])):
    session.run(None, feed)
"""


def main(words: Sequence[str] | None = None) -> int:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--root", default=ROOT, help="a root file system, or a C library")
    said = "a root file system whose python3 imports onnxruntime from DIR/opt/site"
    parser.add_argument("--onnxruntime", metavar="DIR", help=said)
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    arguments = parser.parse_args(words)
    rows = {}
    for name in arguments.models:
        model = arguments.zoo / "models" / f"{name}.onnx"
        for target in arguments.targets:
            row = measure(model, target, arguments.root, arguments.onnxruntime)
            rows[f"{name} {target}"] = row
            machine.write(NAME, {"models": rows})
    print_table(rows)
    return 0


def measure(model: Path, target: str, root: str, theirs: str | None) -> dict[str, Any]:
    """Instructions of one run, of ours and ONNX Runtime's, and the model's multiply-adds."""
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "count.so"
        source = Path(__file__).with_name("count_instructions.c")
        compiler = [find_c_compiler(), "-shared", "-fPIC", "-O2"]
        subprocess.run([*compiler, "-o", plugin, source], check=True)
        options = CompileOptions(standalone="model")
        bundle = tilewright.compile(model, target, options=options, db=False).save_bundle(
            Path(folder) / "bundle"
        )
        emulator = [shutil.which("qemu-aarch64"), "-cpu", PROCESSORS[target], "-plugin", plugin]
        run = [*emulator, "-L", root, bundle / "run", "--threads", "1", "--runs"]
        count = _each(lambda runs: [*run, str(runs)])
        others = None
        if theirs is not None:
            python = [*emulator, "-L", theirs, Path(theirs) / "usr/bin/python3", "-c", ONNX_RUNTIME]
            environment = {"PYTHONPATH": f"{theirs}/opt/site", "PYTHONHASHSEED": "0"}
            others = _each(lambda runs: [*python, model, str(runs)], environment)
    adds = multiply_adds(model)
    ideal = adds / LANES * (1 + LOADS_PER_FMLA)
    row = {
        "instructions": count,
        "multiply_adds": adds,
        "ideal": ideal,
        "of_ideal": count / ideal,
        "per_multiply_add": count / adds,
    }
    if others is not None:
        row |= {"onnxruntime": others, "onnxruntime_over_ours": others / count}
    return row


def _each(
    command: Callable[[int], list[object]], environment: Mapping[str, str] | None = None
) -> float:
    """Instructions of one run more."""

    def executed(runs: int) -> int:
        done = subprocess.run(
            [str(word) for word in command(runs)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **(environment or {})},
        )
        return int(re.search(r"^instructions (\d+)$", done.stderr, re.MULTILINE)[1])

    return (executed(1 + MORE_RUNS) - executed(1)) / MORE_RUNS


def multiply_adds(model: Path) -> int:
    """Of the convolutions and linear layers of a model whose sizes are known."""
    proto = onnx.shape_inference.infer_shapes(onnx.load(model))
    graph = proto.graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    shapes |= {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.output}
    shapes |= {w.name: list(w.dims) for w in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        out, weights = shapes[node.output[0]], shapes[node.input[1]]
        elements = math.prod(out)
        if node.op_type == "Conv":
            total += elements * math.prod(weights[1:])
        else:
            total += elements * math.prod(weights) // out[-1]
    return total


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each model and target."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model and target")
    for title in ("instructions", "multiply-adds", "each", "of the ideal", "ORT/ours"):
        table.add_column(title, justify="right")
    for key, row in rows.items():
        counts = [f"{row[name] / 1e6:.1f} M" for name in ("instructions", "multiply_adds")]
        ratio = row.get("onnxruntime_over_ours")
        shares = [f"{row['per_multiply_add']:.3f}", f"{row['of_ideal']:.2f}"]
        table.add_row(key, *counts, *shares, "" if ratio is None else f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
