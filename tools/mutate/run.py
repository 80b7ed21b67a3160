"""Compile one mutant in a process of its own, within limits, and say how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

# Of processor time, over all processes of a mutant: on a machine that does other work too, what is
# only slow would look like a hang. What waits for ever is stopped after WAITS times as long.
SECONDS = 60.0
WAITS = 10
BYTES = 4 << 30
# What a user can act on. Any other class says that the compiler failed, not the model.
CLEAR = ("ModelError", "UnsupportedModel", "OptionError")
# The first three are right; the rest are faults of the compiler. "reference": ONNX Runtime's own
# optimisations change its answer, without them it agrees.
CLASSES = ("right", "reference", "clear", "unclear", "wrong", "crash", "hang", "memory")
PASSES = CLASSES[:3]
_TICK = 0.05


@dataclass(frozen=True)
class Outcome:
    """How a mutant ended. `peak_bytes` is resident memory, of all its processes together.

    `seconds` went by, `cpu_seconds` were spent on it.
    """

    result: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    error: dict[str, Any]


def run(model: Path, seconds: float = SECONDS, limit: int = BYTES) -> Outcome:
    """`tilewright compile MODEL`, checked against ONNX Runtime, into a folder that goes again."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        command = [sys.executable, "-m", "tools.mutate.worker", str(model)]
        command += ["-o", f"{folder}/model.so", "--no-db", "--quiet"]
        environment = {**os.environ, "TMPDIR": folder}
        start = time.monotonic()
        with open(f"{folder}/answer", "w+") as answer, open(f"{folder}/log", "w") as log:
            worker = subprocess.Popen(
                command, stdout=answer, stderr=log, env=environment, start_new_session=True
            )
            stopped, spent, peak = _watch(worker, seconds, limit)
            took = time.monotonic() - start
            answer.seek(0)
            text = answer.read()
    if stopped:
        return Outcome(stopped, took, spent, peak, {})
    try:
        error = json.loads(text.splitlines()[-1])
    except (IndexError, ValueError):
        error = {"what": f"exit code {worker.returncode}: {text!r}"}
        return Outcome("crash", took, spent, peak, error)
    return Outcome(classify(error), took, spent, peak, error)


def classify(error: dict[str, Any]) -> str:
    """Which of CLASSES the answer of a worker is."""
    if not error:
        return "right"
    if error.get("kind") == "CheckFailed":
        return "reference" if error["agrees_unoptimised"] else "wrong"
    says = error.get("what") and error.get("where") and (error.get("expected") or error.get("hint"))
    return "clear" if error.get("kind") in CLEAR and says else "unclear"


def _watch(worker: subprocess.Popen, seconds: float, limit: int) -> tuple[str, float, int]:
    """Wait for the worker, or stop it: why ("" when it ended by itself), and time and memory.

    Samples add up all its processes; the largest of them, exactly, is what the system knows.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    spent, waited, peak, stopped = 0.0, 0.0, 0, ""
    while worker.poll() is None:
        family = _family(worker.pid)
        peak = max(peak, sum(_resident(process) for process in family))
        spent = max(spent, sum(_processor_time(process) for process in family))
        # In steps of this loop: while a machine sleeps, or stops us, nothing hangs.
        waited += _TICK
        hangs = spent > seconds or waited > WAITS * seconds
        stopped = "memory" if peak > limit else "hang" if hangs else ""
        if stopped:
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            worker.wait()
            break
        time.sleep(_TICK)
    # The maximum over all processes so far: only one that is larger than the others says something.
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak = max(peak, after * 1024 if after > before else 0)
    return stopped or ("memory" if peak > limit else ""), spent, peak


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _processor_time(process: psutil.Process) -> float:
    """Its own, and that of children which have ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
