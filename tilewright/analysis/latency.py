"""Our latency beside ONNX Runtime's: same inputs, same threads, in turns, in one process.

Method. Loading, the first call and peak memory are measured in a process per engine. The
steady state is measured with both engines in one process that takes turns: call by call on
one thread; on several, in blocks of half a second, so that no engine's waiting workers spin
into the other's time, with the first call of each block dropped. The ratio is that of the
medians; its interval a 95% bootstrap over the calls (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler import child
from tilewright.compiler.child import Emit
from tilewright.compiler.importer.torch_program import as_onnx

BLOCK_SECONDS = 0.5
MIN_CALLS = 5
BOOTSTRAPS = 1000
OURS, ORT = "tilewright", "onnxruntime"


def measure(
    library: Path,
    model: Path | str | None,
    *,
    threads: int,
    inputs: Sequence[str] = (),
    seed: int = 0,
    seconds: float = 10.0,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Measure `library`, beside ONNX Runtime on `model` when there is one (docs/bench.md)."""
    job = {
        "library": str(library),
        # What ONNX Runtime takes to load is timed: that it can be loaded is not part of it.
        "model": str(as_onnx(Path(model), progress)) if model else None,
        "threads": threads,
        "inputs": list(inputs),
        "seed": seed,
        "seconds": seconds,
    }
    names = [OURS, ORT] if model else [OURS]
    engines = {
        name: child.call(f"{__name__}:start_job", {**job, "engine": name}, progress, doing="bench")
        for name in names
    }
    steady = child.call(f"{__name__}:steady_job", job, progress, doing="bench")
    for name in names:
        engines[name].update(steady["engines"][name])
    result = {"threads": threads, "engines": engines}
    return {**result, "ratio": steady["ratio"]} if model else result


def start_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Load and call one engine in this fresh process: seconds, and peak memory in bytes."""
    step = f"start {job['engine']}"
    emit("start", step=step)
    inputs = job_inputs(job)
    _import_engine(job["engine"])
    begin = time.perf_counter()
    call = _open(job, job["engine"])
    load = time.perf_counter() - begin
    begin = time.perf_counter()
    call(inputs)
    first = time.perf_counter() - begin
    for _ in range(3):
        call(inputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    emit("done", step=step, seconds=load + first, note="load and first call")
    return {"load": load, "first_call": first, "peak_bytes": peak}


def steady_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Both engines in turns; median and spread of each, and the ratio."""
    emit("start", step="measure")
    inputs = job_inputs(job)
    names = [OURS, ORT] if job["model"] else [OURS]
    calls = {name: _open(job, name) for name in names}
    block = BLOCK_SECONDS if job["threads"] > 1 else 0.0
    times: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        calls[name](inputs)
    begin = time.perf_counter()
    while _goes_on(times, begin, job["seconds"]):
        for name in names:
            times[name] += timed_block(calls[name], inputs, block)
    emit("done", step="measure", seconds=time.perf_counter() - begin, note=_counts(times))
    result: dict[str, Any] = {"engines": {name: _spread(times[name]) for name in names}}
    if job["model"]:
        result["ratio"] = ratio_of_medians(times[ORT], times[OURS])
    return result


def _goes_on(times: dict[str, list[float]], begin: float, seconds: float) -> bool:
    return time.perf_counter() - begin < seconds or min(len(t) for t in times.values()) < MIN_CALLS


def timed_block(call: Callable, inputs: dict[str, np.ndarray], seconds: float) -> list[float]:
    """Times of calls for `seconds`; one call when 0. In a block the first call is dropped."""
    times = []
    begin = time.perf_counter()
    if seconds:
        call(inputs)
    while True:
        start = time.perf_counter()
        call(inputs)
        end = time.perf_counter()
        times.append(end - start)
        if end - begin >= seconds:
            return times


def ratio_of_medians(a: list[float], b: list[float]) -> dict[str, float]:
    """median(a) / median(b) and its 95% bootstrap interval."""
    rng = np.random.default_rng(0)
    low, high = np.percentile(_medians(a, rng) / _medians(b, rng), [2.5, 97.5])
    median = float(np.median(a) / np.median(b))
    return {"median": median, "low": float(low), "high": float(high)}


def _medians(times: list[float], rng: np.random.Generator) -> np.ndarray:
    """BOOTSTRAPS medians of resampled `times`, drawn by their rank.

    The rank of a resampled median follows a beta distribution, so that no sample need be drawn
    (100,000 calls would take half a minute).
    """
    half = (len(times) + 1) / 2
    ranks = rng.beta(half, half, BOOTSTRAPS) * len(times)
    return np.sort(times)[ranks.astype(int)]


def _spread(times: list[float]) -> dict[str, Any]:
    p10, median, p90 = (float(p) for p in np.percentile(times, [10, 50, 90]))
    return {"median": median, "p10": p10, "p90": p90, "calls": len(times)}


def _counts(times: dict[str, list[float]]) -> str:
    return ", ".join(f"{len(t)} calls of {name}" for name, t in times.items())


def job_inputs(job: dict[str, Any]) -> dict[str, np.ndarray]:
    """Inputs of `job["library"]`: those given as `--input`, the others random."""
    from tilewright.compiler.sections import read_manifest
    from tilewright.verification.inputs import (
        bind_dimensions,
        random_inputs,
        read_inputs,
        sizes_to_try,
    )

    manifest = read_manifest(Path(job["library"]))
    given, _ = read_inputs(job["inputs"], manifest["inputs"])
    dims = bind_dimensions(manifest["inputs"], given, sizes_to_try(manifest["dims"])[-1])
    return {**random_inputs(manifest["inputs"], dims, job["seed"]), **given}


def _import_engine(engine: str) -> None:
    """Import what the engine needs, so that `load` is the model's time and not Python's."""
    if engine == OURS:
        import tvm_ffi  # noqa: F401

        import tilewright.compiler.runtime
    else:
        import onnxruntime  # noqa: F401

        import tilewright.verification.session  # noqa: F401


def _open(job: dict[str, Any], engine: str) -> Callable[[dict[str, np.ndarray]], Any]:
    if engine == OURS:
        from tilewright.compiler import runtime

        return runtime.load(job["library"], job["threads"])
    from tilewright.verification.session import open_session

    session = open_session(job["model"], job["threads"])
    return lambda inputs: session.run(None, inputs)
