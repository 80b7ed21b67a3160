"""The end of a session: the whole model before and after, and what is confirmed of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.autotune.farm import Farm, open_devices
from tilewright.autotune.records import Database, Record, now, versions
from tilewright.compiler import child
from tilewright.compiler.artifact import Artifact
from tilewright.compiler.child import Emit
from tilewright.targets import Target


def choices(won: list[dict[str, Any]]) -> dict[str, Any]:
    """Rules and knobs by the key of a spec, as a compilation takes them."""
    return {row["spec"]: {"rule": row["rule"], "knobs": row["knobs"]} for row in won}


def confirm(
    job: dict[str, Any], won: list[dict[str, Any]], target: str, before: Artifact, after: Artifact
) -> dict[str, Any]:
    """Compare the libraries without and with what has won; confirm that if it makes them faster.

    `after` has been compared with ONNX Runtime, or is on the device, where this machine cannot run
    it; `target` is the fingerprint of the target.
    Returns seconds of both, the ratio with its interval, and whether the records were confirmed.
    """
    made = after.library if after.check else after.save_bundle(after.library.parent / "bundle")
    files = {"before": str(before.library), "after": str(made)}
    found = child.call(f"{__name__}:compare_job", {**job, **files}, doing="measuring")
    right = bool(after.check["passed"]) if after.check else found["right"]
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


def compare_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Both libraries in turns: seconds of each, and how many times as fast the second is."""
    # One is enough, of however many there are.
    where = job["devices"] and {**job["devices"], "most": 1}
    devices = open_devices(where, Target.from_dict(job["target"]), job["threads"])
    farm = Farm(devices, lambda text: emit("note", text=text))
    before, after = Path(job["before"]), Path(job["after"])
    try:
        return farm.ask(lambda device: device.compare(before, after, job["seed"]))
    finally:
        farm.close()
