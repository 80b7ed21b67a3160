"""Whatever changes a compilation changes no number beyond rounding.

    python -m benchmarks.equivalence [--models NAME ...] [--examples 5] [--resume]

Each model is compiled at -O0 to -O3 and at -O3 without each optional step in turn; every library
is verified on the same drawn inputs. That of -O3 is also run twice, with 1, 2 and 3 threads and in
another process, where all bits must be the same. Steps whose absence leaves the kernels as they
are take no part in the model. Writes results/equivalence.json after each model; --resume leaves
out what is in it. Make the models first with `python -m tools.zoo`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import latency, machine
from tilewright.compiler import child, runtime
from tilewright.compiler.child import Emit
from tilewright.compiler.steps import OPTIONAL_STEPS
from tilewright.options import OPT_LEVELS, CompileOptions
from tilewright.verification.engines import as_tuple
from tilewright.verification.inputs import random_inputs

NAME = "equivalence"
# One of each kind; the sizes that are open stay so, within these bounds.
MODELS: dict[str, dict[str, tuple[int, int]]] = {
    "mobilenetv3_large_100": {},
    "trained_minilm_l6_dyn": {"batch": (1, 3), "seq": (1, 64)},
    "lstm_bi2_asr": {},
    "unet_convtranspose_256": {},
    "trained_ppocr_cls": {"x_d0": (1, 2), "x_d2": (33, 64), "x_d3": (33, 128)},
}
LARGEST = max(OPT_LEVELS)
THREADS = (1, 2, 3)


def main(words: Sequence[str] | None = None) -> int:
    """Run the models named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--examples", type=int, default=5)
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    parser.add_argument("--resume", action="store_true", help="leave out what is done already")
    arguments = parser.parse_args(words)
    rows = latency.earlier(NAME) if arguments.resume else {}
    for name in arguments.models:
        if name in rows:
            continue
        try:
            rows[name] = compare(name, arguments)
        except tilewright.TilewrightError as error:
            rows[name] = {"error": str(error)}
        machine.write(NAME, {"examples": arguments.examples, "models": rows})
    print_table(rows)
    return 0 if all(map(agrees, rows.values())) else 1


def agrees(row: Mapping[str, Any]) -> bool:
    """Whether every build of a model is right, and every run of one gives the same bits."""
    return (
        "error" not in row
        and all(build["passed"] for build in row["builds"].values())
        and all(row["same_bits"].values())
    )


def compare(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every build of one model beside ONNX Runtime, and every run of the usual one."""
    model, dims = arguments.zoo / "models" / f"{name}.onnx", MODELS[name]
    usual = CompileOptions(dims=dims)
    variants = {f"-O{level}": CompileOptions(level, dims) for level in OPT_LEVELS}
    variants |= {f"without {s}": CompileOptions(dims=dims, disable=(s,)) for s in OPTIONAL_STEPS}
    builds: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "usual.so"
        kernels = build(model, usual, library)
        same = same_bits(library)
        for title, options in variants.items():
            changed = Path(folder) / "changed.so"
            found = build(model, options, changed)
            if found == kernels and title != f"-O{LARGEST}":
                continue
            proof = tilewright.verify(
                changed, model=model, examples=arguments.examples, failures=Path(folder)
            )
            builds[title] = {"passed": proof.passed, "used": proof.used, "summary": str(proof)}
            print(f"{name} {title}: {proof}", file=sys.stderr)
    return {"builds": builds, "same_bits": same}


def build(model: Path, options: CompileOptions, library: Path) -> list[tuple[Any, ...]]:
    """Compile to `library`; what its kernels are."""
    artifact = tilewright.compile(model, options=options, check=False, db=False)
    library.unlink(missing_ok=True)
    artifact.save(library)
    names = ("name", "rule", "fusion", "calls", "flops")
    return [tuple(row[name] for name in names) for row in artifact.manifest["kernels"]]


def same_bits(library: Path) -> dict[str, bool]:
    """Whether the outputs have the same bits whatever runs them."""
    job = {"library": str(library)}
    first = child.call("benchmarks.equivalence:run_job", {**job, "threads": [1, *THREADS]})
    again = child.call("benchmarks.equivalence:run_job", {**job, "threads": [1]})
    ways = ["again", *(f"{n} threads" for n in THREADS)]
    same = {way: found == first["bits"][0] for way, found in zip(ways, first["bits"], strict=True)}
    return {**same, "another process": again["bits"][0] == first["bits"][0]}


def run_job(job: dict[str, Any], _emit: Emit) -> dict[str, Any]:
    """The bits of all outputs, for each number of threads, at two sizes of what is open."""
    found = []
    for threads in job["threads"]:
        module = runtime.load(job["library"], threads)
        bits = hashlib.sha256()
        for place in (0, 1):
            sizes = {name: limits[place] for name, limits in module.manifest["dims"].items()}
            inputs = random_inputs(module.manifest["inputs"], sizes, 0)
            for array in as_tuple(module(inputs)):
                bits.update(np.ascontiguousarray(array))
        found.append(bits.hexdigest())
    return {"bits": found}


def print_table(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line for each model."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("model", "builds", "right", "most used", "same bits"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in rows.items():
        if "error" in row:
            table.add_row(name, "", "NO", "", row["error"].splitlines()[0][:80])
            continue
        builds = row["builds"].values()
        right, used = sum(b["passed"] for b in builds), max(b["used"] or 0.0 for b in builds)
        other = [way for way, same in row["same_bits"].items() if not same]
        bits = f"not {', '.join(other)}" if other else "yes"
        table.add_row(name, str(len(builds)), str(right), f"{used:.0%}", bits)
    Console(width=130).print(table)


if __name__ == "__main__":
    sys.exit(main())
