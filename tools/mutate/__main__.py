"""Damage valid models, compile what comes out, and count how it ends.

    python -m tools.mutate [--count 500] [--seed 0] [--only NAME ...] [--numbers N ...] [--keep DIR]

Each mutant is compiled and checked by `tilewright compile`, in a process with 60 s of processor
time and 4 GB. It must be refused with an error that says what, where and what next, or compute what
ONNX Runtime computes. The exit code is 1 when one does neither. --json FILE writes every outcome.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import machine
from tools.mutate.mutations import MUTATIONS, mutant
from tools.mutate.run import BYTES, CLASSES, PASSES, SECONDS, run

# Characters of a message that the report keeps, at its beginning and at its end.
_SHOWN = 500


def main(words: Sequence[str] | None = None) -> int:
    """Run the mutants that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[m.name for m in MUTATIONS], default=[])
    parser.add_argument("--numbers", nargs="+", type=int, help="these mutants, by number")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="leave what fails in this folder")
    arguments = parser.parse_args(words)
    kinds = [mutation.name for mutation in MUTATIONS]
    numbers = arguments.numbers or [
        number
        for number in range(arguments.count)
        if not arguments.only or kinds[number % len(kinds)] in arguments.only
    ]
    rows = []
    with ThreadPoolExecutor(arguments.at_once) as pool:
        for row in pool.map(lambda n: one(arguments.seed, n, arguments.keep), numbers):
            rows.append(row)
            print(_line(row), file=sys.stderr, flush=True)
    counts = collections.Counter(row["result"] for row in rows)
    report = {
        "machine": machine.describe(),
        "seed": arguments.seed,
        "mutations": len(MUTATIONS),
        "limits": {"cpu_seconds": SECONDS, "bytes": BYTES},
        "counts": {name: counts[name] for name in CLASSES},
        "most_cpu_seconds": max(row["cpu_seconds"] for row in rows),
        "largest_bytes": max(row["peak_bytes"] for row in rows),
        "mutants": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(", ".join(f"{counts[name]} {name}" for name in CLASSES))
    return 0 if all(row["result"] in PASSES for row in rows) else 1


def one(seed: int, number: int, keep: Path | None = None) -> dict[str, Any]:
    """Make and compile mutant `number`; a row of the report."""
    mutation, model, case = mutant(seed, number)
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        outcome = run(case.write(Path(folder)))
        # Paths differ from run to run.
        error = json.loads(json.dumps(outcome.error).replace(folder, "."))
    if keep is not None and outcome.result not in PASSES:
        place = keep / f"{number}_{mutation.name}"
        place.mkdir(parents=True, exist_ok=True)
        case.write(place)
    return {
        "number": number,
        "mutation": mutation.name,
        "model": model,
        "result": outcome.result,
        "seconds": round(outcome.seconds, 2),
        "cpu_seconds": round(outcome.cpu_seconds, 2),
        "peak_bytes": outcome.peak_bytes,
        "error": {key: _short(said) for key, said in error.items()},
    }


def _short(said: Any) -> Any:
    long = isinstance(said, str) and len(said) > 2 * _SHOWN
    return f"{said[:_SHOWN]}...{said[-_SHOWN:]}" if long else said


def _line(row: dict[str, Any]) -> str:
    error = row["error"]
    says = error.get("what") or (error.get("traceback") or "").strip().splitlines()[-1:] or ""
    head = f"{row['number']:4} {row['result']:8} {row['cpu_seconds']:5.1f} s "
    return f"{head}{row['peak_bytes'] >> 20:5} MB  {row['mutation']} of {row['model']}: {says}"


if __name__ == "__main__":
    sys.exit(main())
