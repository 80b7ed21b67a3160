"""Where the time of a run goes: every kernel of a library, beside what the machine could do.

The library runs in a child process, once as it is and once with a clock around every call of TVM's
VM, in turns. A kernel's time is the sum of its calls in one run, and of that the median over the
runs; what the whole run takes beyond all kernels is the rest: memory, checks of shapes, the VM.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.analysis import roofline
from tilewright.analysis.latency import job_inputs
from tilewright.analysis.roofline import Roofline
from tilewright.compiler import child, runtime
from tilewright.compiler.child import Emit
from tilewright.compiler.sections import read_manifest

MIN_RUNS = 5
# Runs before any is timed: pages of the weights come in, and the pool of memory fills.
WARM_UP = 2


def measure(
    library: Path,
    *,
    threads: int,
    inputs: Sequence[str] = (),
    seed: int = 0,
    seconds: float = 3.0,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Profile `library` (docs/profile.md)."""
    job = {
        "library": str(library),
        "threads": threads,
        "inputs": list(inputs),
        "seed": seed,
        "seconds": seconds,
    }
    found = child.call(f"{__name__}:profile_job", job, progress, doing="profiling")
    machine = roofline.of_this_machine(threads)
    manifest = read_manifest(library)
    rows = {row["name"]: row for row in manifest["kernels"]}
    kernels = [
        _row(rows[name], kernel, found["seconds"], machine)
        for name, kernel in found["kernels"].items()
    ]
    kernels.sort(key=lambda row: -row["seconds"])
    inside = sum(row["seconds"] for row in kernels)
    return {
        "model": manifest["model"]["file"],
        "threads": threads,
        "runs": found["runs"],
        "seconds": found["seconds"],
        "kernel_seconds": inside,
        "rest_seconds": found["seconds"] - inside,
        "roofline": machine.to_dict(),
        "kernels": kernels,
    }


def _row(
    row: dict[str, Any], kernel: dict[str, Any], whole: float, machine: Roofline
) -> dict[str, Any]:
    """One kernel: what the manifest says of it, its times, and its distance from the roof."""
    calls, size = kernel["calls"], _moved(row["spec"], kernel["sizes"])
    # Operations of a kernel with open sizes are not known: bytes alone then limit it.
    least, bound = machine.least_seconds(row["flops"] or 0, size)
    seconds = kernel["seconds"]
    return {
        **{key: row[key] for key in ("name", "fusion", "rule", "spec", "nodes")},
        "calls": calls,
        "seconds": seconds,
        "p10": kernel["p10"],
        "p90": kernel["p90"],
        "share": seconds / whole,
        "flops": row["flops"],
        "bytes": size,
        "flops_per_second": None if row["flops"] is None else row["flops"] * calls / seconds,
        "bytes_per_second": size * calls / seconds,
        "bound": bound,
        "roof_share": least * calls / seconds,
    }


def _moved(spec: dict[str, Any] | None, sizes: list[int]) -> int:
    """Bytes a call must move: every argument once; of a table, only the rows looked up."""
    if spec is not None and spec["kind"] == "Embedding":
        return len(spec["ids"]) * sizes[-1] + sizes[-1]
    return sum(sizes)


def profile_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Time runs with and without a clock around the kernels."""
    emit("start", step="profile")
    begin = time.perf_counter()
    plain = runtime.load(job["library"], job["threads"])
    watched = runtime.load(job["library"], job["threads"])
    inputs = job_inputs(job)
    clock = Clock({row["name"] for row in plain.manifest["kernels"]})
    watched.watch(clock.look)
    watched(inputs)
    watched.watch(clock.tick)
    for _ in range(WARM_UP):
        plain(inputs)
        watched(inputs)
    whole: list[float] = []
    runs: list[dict[str, float]] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < job["seconds"] or len(runs) < MIN_RUNS:
        start = time.perf_counter()
        plain(inputs)
        whole.append(time.perf_counter() - start)
        clock.start()
        watched(inputs)
        runs.append(clock.seconds())
    emit("done", step="profile", seconds=time.perf_counter() - begin, note=f"{len(runs)} runs")
    kernels = {
        name: {**_spread([run[name] for run in runs]), "calls": calls, "sizes": clock.sizes[name]}
        for name, calls in clock.calls().items()
    }
    return {"runs": len(runs), "seconds": float(np.median(whole)), "kernels": kernels}


class Clock:
    """Callbacks of a watched module: one that looks at the arguments, one that takes the time."""

    def __init__(self, kernels: set[str]) -> None:
        self._kernels = kernels
        self._ticks: list[tuple[str, bool, int]] = []
        self._ends: list[int] = []
        # Bytes of each argument of each kernel, the result last.
        self.sizes: dict[str, list[int]] = {}

    def look(self, _function: Any, name: str, before: bool, _result: Any, *arguments: Any) -> None:
        """Note the sizes of a kernel's arguments."""
        if before and name in self._kernels:
            self.sizes[name] = [_bytes_of(argument) for argument in arguments]

    def tick(self, _function: Any, name: str, before: bool, *_arguments: Any) -> None:
        """Note the time: on the way in after our own work, on the way out before it."""
        at = time.perf_counter_ns()
        self._ticks.append((name, before, at))
        self._ends.append(time.perf_counter_ns())

    def start(self) -> None:
        """Forget what was noted."""
        self._ticks.clear()
        self._ends.clear()

    def seconds(self) -> dict[str, float]:
        """Time in each kernel since `start`."""
        found = dict.fromkeys(self.sizes, 0.0)
        for name, begin, end in self._pairs():
            found[name] += (end - begin) * 1e-9
        return found

    def calls(self) -> dict[str, int]:
        """Calls of each kernel since `start`."""
        found = dict.fromkeys(self.sizes, 0)
        for name, _, _ in self._pairs():
            found[name] += 1
        return found

    def _pairs(self) -> list[tuple[str, int, int]]:
        """Name, begin and end of each kernel's call; a kernel calls nothing that is watched."""
        pairs = []
        for place, (name, before, at) in enumerate(self._ticks):
            if not before and name in self._kernels:
                pairs.append((name, self._ends[place - 1], at))
        return pairs


def _bytes_of(argument: Any) -> int:
    shape = getattr(argument, "shape", None)
    if shape is None:
        return 0
    return math.prod(int(size) for size in shape) * np.dtype(str(argument.dtype)).itemsize


def _spread(times: list[float]) -> dict[str, float]:
    p10, median, p90 = (float(p) for p in np.percentile(times, [10, 50, 90]))
    return {"seconds": median, "p10": p10, "p90": p90}
