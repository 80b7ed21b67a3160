"""Engines that take turns in one process: ours, ONNX Runtime's, OpenVINO's, on one model.

Each is called twice before anything is timed. Then they take turns in rounds: one call each on one
thread; on several, half a second each, with the first call dropped, so that no engine's waiting
workers spin into the other's time. A round is a pair of blocks for every two engines; the ratio of
two is that of the medians over all rounds, its interval a 95% bootstrap over the rounds (Efron and
Tibshirani 1993, chapter 13). The peak of multiply-adds is measured between rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.analysis import roofline
from tilewright.analysis.latency import BLOCK_SECONDS, BOOTSTRAPS, timed_block
from tilewright.compiler import child
from tilewright.compiler.child import Emit
from tilewright.targets import resolve

MIN_ROUNDS = 5
PEAK_EVERY_SECONDS = 0.5

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Engine:
    """Who runs what: `kind` is a key of OPEN, `file` our library or the others' model."""

    name: str
    kind: str
    file: str


def measure(
    engines: Sequence[Engine], inputs: Path, threads: int, seconds: float
) -> dict[str, Any]:
    """Medians and quartiles of each engine, ratios to the first, and the peak.

    `inputs` is an .npz file. An engine that cannot open its model is in `errors` instead. Seconds,
    and operations per second.
    """
    job = {
        "engines": [asdict(engine) for engine in engines],
        "inputs": str(inputs),
        "threads": threads,
        "seconds": seconds,
    }
    return child.call("benchmarks.turns:turns_job", job, doing="measuring")


def turns_job(job: dict[str, Any], _emit: Emit) -> dict[str, Any]:
    """`measure`, in a process of its own."""
    threads, block = job["threads"], BLOCK_SECONDS if job["threads"] > 1 else 0.0
    inputs = dict(np.load(job["inputs"]))
    calls, errors = _open_all([Engine(**row) for row in job["engines"]], inputs, threads)
    target = resolve("native")
    peaks, rounds = [roofline.fma_peak(target, threads)], []
    begin = asked = time.perf_counter()
    while time.perf_counter() - begin < job["seconds"] or len(rounds) < MIN_ROUNDS:
        rounds.append({name: timed_block(call, inputs, block) for name, call in calls.items()})
        if time.perf_counter() - asked > PEAK_EVERY_SECONDS:
            peaks.append(roofline.fma_peak(target, threads))
            asked = time.perf_counter()
    first, *others = calls
    return {
        "threads": threads,
        "rounds": len(rounds),
        "engines": {name: spread([t for r in rounds for t in r[name]]) for name in calls},
        "ratios": {name: paired_ratio(rounds, name, first) for name in others},
        "errors": errors,
        "peak": float(np.median(peaks)),
    }


def _open_all(
    engines: Sequence[Engine], inputs: Inputs, threads: int
) -> tuple[dict[str, Callable[[Inputs], Any]], dict[str, str]]:
    """Engines that run, called twice; and why the others do not. The first must."""
    calls, errors = {}, {}
    for engine in engines:
        try:
            call = OPEN[engine.kind](engine.file, inputs, threads)
            call(inputs)
            call(inputs)
        except Exception as error:
            if engine is engines[0]:
                raise
            errors[engine.name] = " ".join(str(error).split())[:300]
            continue
        calls[engine.name] = call
    return calls, errors


def _ours(file: str, _inputs: Inputs, threads: int) -> Callable[[Inputs], Any]:
    from tilewright.compiler import runtime

    return runtime.load(file, threads)


def _onnxruntime(file: str, _inputs: Inputs, threads: int) -> Callable[[Inputs], Any]:
    from tilewright.verification.session import open_session

    session = open_session(file, threads)
    return lambda inputs: session.run(None, inputs)


def _openvino(file: str, inputs: Inputs, threads: int) -> Callable[[Inputs], Any]:
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    model.reshape({name: array.shape for name, array in inputs.items()})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        # Some CPUs would compute in bfloat16 by default.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda inputs: request.infer(inputs, share_inputs=True)


OPEN: dict[str, Callable[[str, Inputs, int], Callable[[Inputs], Any]]] = {
    "tilewright": _ours,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def spread(times: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles, and of how many."""
    q25, median, q75 = (float(q) for q in np.percentile(times, [25, 50, 75]))
    return {"median": median, "q25": q25, "q75": q75, "calls": len(times)}


def paired_ratio(rounds: Sequence[Mapping[str, list[float]]], a: str, b: str) -> dict[str, float]:
    """The median of engine `a` over that of `b`, each of its blocks' medians; 95% bootstrap."""
    blocks = np.array([[np.median(r[a]), np.median(r[b])] for r in rounds])
    rng = np.random.default_rng(0)
    ratios = np.empty(BOOTSTRAPS)
    for number in range(BOOTSTRAPS):
        sample = np.median(blocks[rng.integers(0, len(blocks), len(blocks))], axis=0)
        ratios[number] = sample[0] / sample[1]
    low, high = np.percentile(ratios, [2.5, 97.5])
    top, bottom = np.median(blocks, axis=0)
    return {"median": float(top / bottom), "low": float(low), "high": float(high)}


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n values."""
    return float(np.exp(np.mean(np.log(values))))
