"""The end of a session: the whole model before and after, and what is confirmed of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.analysis.latency import job_inputs, ratio_of_medians, timed_block
from tilewright.autotune.records import Database, Record, now, versions
from tilewright.compiler import child, runtime
from tilewright.compiler.artifact import Artifact
from tilewright.compiler.child import Emit

SECONDS = 5.0
FEWEST_CALLS = 10
# Each takes a turn of so long, so that what waits for one does not spin in the other's time.
TURN_SECONDS = 0.1


def choices(won: list[dict[str, Any]]) -> dict[str, Any]:
    """Rules and knobs by the key of a spec, as a compilation takes them."""
    return {row["spec"]: {"rule": row["rule"], "knobs": row["knobs"]} for row in won}


def confirm(
    job: dict[str, Any], won: list[dict[str, Any]], target: str, before: Artifact, after: Artifact
) -> dict[str, Any]:
    """Compare the libraries without and with what has won; confirm that if it makes them faster.

    `after` has been compared with ONNX Runtime; `target` is the fingerprint of the target.
    Returns seconds of both, the ratio with its interval, and whether the records were confirmed.
    """
    duel = {
        "before": str(before.library),
        "after": str(after.library),
        "library": str(after.library),
        "threads": job["threads"],
        "inputs": [],
        "seed": job["seed"],
    }
    found = child.call(f"{__name__}:duel_job", duel, doing="measuring")
    right = bool(after.check["passed"])
    faster = found["ratio"]["median"] >= 1.0
    if right and faster:
        Database(Path(job["db"])).append(_record(row, target, job["threads"]) for row in won)
    return {**found, "right": right, "confirmed": right and faster}


def _record(row: dict[str, Any], target: str, threads: int) -> Record:
    return Record(
        spec=row["spec"],
        target=target,
        threads=threads,
        rule=row["rule"],
        knobs=row["knobs"],
        seconds=tuple(row["seconds"]),
        default_seconds=row["default_seconds"],
        confirmed=True,
        date=now(),
        versions=versions(),
    )


def duel_job(job: dict[str, Any], _emit: Emit) -> dict[str, Any]:
    """Both libraries in turns: seconds of each, and how many times as fast the second is."""
    models = {name: runtime.load(job[name], job["threads"]) for name in ("before", "after")}
    inputs = job_inputs(job)
    times: dict[str, list[float]] = {name: [] for name in models}
    begin = time.perf_counter()
    while time.perf_counter() - begin < SECONDS or len(times["after"]) < FEWEST_CALLS:
        for name, model in models.items():
            times[name] += timed_block(model, inputs, TURN_SECONDS)
    return {
        "before_seconds": float(np.median(times["before"])),
        "after_seconds": float(np.median(times["after"])),
        "ratio": ratio_of_medians(times["before"], times["after"]),
    }
