"""How long 64 choices of a convolution take to build and to measure.

    python -m benchmarks.trials [--trials 64] [--threads 1]

Whole sessions on one convolution each, from an empty file of records and an empty kernel cache:
seconds from the start of the command to its end, comparison of the whole model included, and those
of the trials alone. Writes results/trials.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tilewright
from benchmarks import machine
from benchmarks.kernels import model_of
from benchmarks.operators import Conv

NAME = "trials"
CONVOLUTIONS = (Conv(128, 28, 128, 3), Conv(64, 56, 256, 1), Conv(512, 7, 512, 3))


def main(words: Sequence[str] | None = None) -> int:
    """Time a session for each convolution."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default=NAME, help="name of the results file")
    arguments = parser.parse_args(words)
    rows = {str(c): measure(c, arguments.trials, arguments.threads) for c in CONVOLUTIONS}
    machine.write(arguments.output, {"threads": arguments.threads, "sessions": rows})
    for name, row in rows.items():
        print(
            f"{name}: {row['trials']} choices in {row['seconds']:.1f} s, "
            f"{row['trial_seconds'] / row['trials']:.2f} s each"
        )
    print(f"raw figures in {machine.RESULTS / arguments.output}.json")
    return 0


def measure(convolution: Conv, trials: int, threads: int) -> dict[str, Any]:
    """One session."""
    seen: list[float] = []

    def progress(event: dict[str, Any]) -> None:
        if event["event"] in ("tasks", "trial"):
            seen.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        model.write_bytes(model_of(convolution).SerializeToString())
        begin = time.perf_counter()
        found = tilewright.tune(
            model,
            db=Path(folder) / "records.jsonl",
            trials=trials,
            budget=None,
            threads=threads,
            cache=False,
            progress=progress,
        )
        seconds = time.perf_counter() - begin
    return {
        "trials": found["trials"],
        "seconds": seconds,
        "trial_seconds": seen[-1] - seen[0],
        "won": len(found["won"]),
    }


if __name__ == "__main__":
    sys.exit(main())
