"""The smallest fault that `verify` catches: python -m benchmarks.bite [--models NAME ...]

In each development model, the results of one kernel in the middle of the network are made wrong by
a relative error, up in one element and down in the next, so that no norm divides it away. What the
compiled model gives is then verified on as many drawn inputs as --examples says. Errors get smaller
by powers of ten until one is missed. Writes results/bite.json after each model; --resume leaves out
what is in it. Make the models first with `python -m tools.zoo`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize
from tvm.tirx import DeclBuffer, PrimFunc, decl_buffer

import tilewright
from benchmarks import latency, machine, models, open_sizes
from tilewright.compiler.faults import Fault
from tilewright.targets.rules.tir import index, loop, seq

NAME = "bite"
MODELS = {**models.MODELS, **{name: {} for name in open_sizes.MODELS}}
ERRORS = (1e-3, 1e-4, 1e-5, 1e-6)


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
        model = arguments.zoo / "models" / f"{name}.onnx"
        try:
            rows[name] = smallest_caught(name, model, arguments.examples)
        except tilewright.TilewrightError as error:
            rows[name] = {"error": str(error)}
        machine.write(NAME, {"examples": arguments.examples, "models": rows})
        print(f"{name}: {rows[name]}", file=sys.stderr)
    print_table(rows)
    missed = [row for row in rows.values() if "error" in row or ERRORS[0] not in row["caught"]]
    return 1 if missed else 0


def smallest_caught(name: str, model: Path, examples: int) -> dict[str, Any]:
    """Which of ERRORS are caught in the kernel in the middle, and how far off the outputs were.

    `seconds` are those of each verification: the compilation, and how long the failing example
    took to shrink.
    """
    shapes = MODELS[name]
    built = tilewright.compile(model, shapes=shapes, check=False, db=False)
    kernels = [row["name"] for row in built.manifest["kernels"] if row["fusion"] is not None]
    kernel = kernels[len(kernels) // 2]
    caught, used, seconds = [], [], []
    for error in ERRORS:
        fault = Fault("kernel", kernel, off_by(error))
        begin = time.perf_counter()
        proof = tilewright.verify(
            model, shapes=shapes, db=False, examples=examples, budget=60, faults=[fault]
        )
        seconds.append(round(time.perf_counter() - begin, 1))
        if proof.failure is None:
            break
        caught.append(error)
        used.append(max(verdict["used"] or 0.0 for verdict in proof.failure["verdicts"]))
    return {"kernel": kernel, "caught": caught, "of_tolerance": used, "seconds": seconds}


def off_by(error: float) -> Callable[[PrimFunc], PrimFunc]:
    """A change of a rule's kernel: its result, the last parameter, is off by `error`."""

    def change(function: PrimFunc) -> PrimFunc:
        result = function.params[-1]
        length = index(1)
        for size in result.shape:
            length = length * size.astype("int32")
        flat = decl_buffer((length,), result.dtype, "off")

        def wrong(i: tirx.Var) -> tirx.Stmt:
            up, down = (tirx.const(1 + side * error, result.dtype) for side in (1, -1))
            factor = tirx.Select(tirx.floormod(i, 2) == 0, up, down)
            return tirx.BufferStore(flat, flat[i] * factor, [i])

        root = function.body.block
        body = seq([root.body, DeclBuffer(flat, data=result.data), loop(length, wrong, "i")])
        block = SBlock([], [], [], "root", body)
        made = PrimFunc(list(function.params), SBlockRealize([], True, block))
        return made.with_attrs(function.attrs)

    return change


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each model."""
    table = Table("model", "kernel", "smallest caught", "times the tolerance", box=box.SIMPLE_HEAD)
    for name, row in rows.items():
        if "error" in row:
            table.add_row(name, row["error"][:60], "", "")
            continue
        least = f"{row['caught'][-1]:g}" if row["caught"] else f"none of {ERRORS}"
        table.add_row(
            name, row["kernel"], least, ", ".join(f"{x:.3g}" for x in row["of_tolerance"])
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    sys.exit(main())
