"""This machine as a device: every program runs in a process of its own, one at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.analysis import roofline
from tilewright.analysis.latency import job_inputs, ratio_of_medians, timed_block
from tilewright.compiler import runtime
from tilewright.compiler.artifact import library_of, read_bundle
from tilewright.devices.device import DEFAULT, DeviceLost
from tilewright.devices.duel import Duel, duel
from tilewright.devices.process import Process, Send, TrialFailed
from tilewright.devices.program import Program
from tilewright.targets import resolve
from tilewright.verification.bundle_job import bundle_job

# To load a program, run it and compare its numbers; and beyond the time it is to run for.
START_SECONDS, RUN_SECONDS = 60.0, 20.0
# The default is timed so often, for so long each.
FIRST_BLOCKS, FIRST_SECONDS = 3, 0.03
# Of the whole model: for so long, with turns of so long, so that what waits for one library does
# not spin in the other's time.
WHOLE_SECONDS, TURN_SECONDS = 5.0, 0.1
FEWEST_CALLS = 10
ULP = 2.0**-23
# What the default computed at each size, in the folder of a task.
_REFERENCE = "reference{}.npy"


class Waiting:
    """A program in its process, waiting to be run."""

    def __init__(self, task: Path, name: str, threads: int) -> None:
        """Start it. Raises TrialFailed when it does not run, or its numbers are wrong."""
        self._process = Process(lambda send, commands: serve(task, name, threads, send, commands))
        self._process.answer(START_SECONDS)

    def run(self, seconds: float) -> list[float]:
        """Seconds of each run, for about `seconds`."""
        self._process.tell(seconds=seconds)
        return self._process.answer(seconds + RUN_SECONDS)["times"]

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended."""
        return self._process.ended

    def close(self) -> None:
        """End the process."""
        self._process.close()


def serve(
    task: Path, name: str, threads: int, send: Send, commands: Iterable[dict[str, Any]]
) -> None:
    """What the process of a program does."""
    program = Program(task / name, task, threads)
    for size, result in enumerate(program.results()):
        reference = task / _REFERENCE.format(size)
        if name == DEFAULT:
            np.save(reference, result)
        else:
            _compare(result, np.load(reference), program.growth)
    send(ready=True)
    for command in commands:
        send(times=program.times(command["seconds"]))


def _compare(result: np.ndarray, wanted: np.ndarray, growth: float) -> None:
    """Raise TrialFailed unless the numbers agree as far as their rounding errors allow."""
    if not np.isfinite(result).all():
        raise TrialFailed("it computes what is no number")
    scale = max(1.0, float(np.abs(wanted).max()))
    allowed = scale * growth * ULP
    worst = float(np.abs(result - wanted).max())
    if worst > allowed:
        raise TrialFailed(f"its numbers are wrong: off by {worst:.3g}, allowed {allowed:.3g}")


class LocalDevice:
    """This machine, with `threads` threads."""

    name = "this machine"
    elsewhere = False

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._default: Waiting | None = None
        self._task: Path | None = None

    def begin(self, task: Path) -> list[float]:
        """See `Device.begin`; raises TrialFailed when the default does not run."""
        self.end()
        self._default, self._task = Waiting(task, DEFAULT, self._threads), task
        blocks = [self._default.run(FIRST_SECONDS) for _ in range(FIRST_BLOCKS)]
        return [seconds for block in blocks for seconds in block]

    def duel(self, task: Path, choice: str, rounds: int) -> Duel:
        """See `Device.duel`."""
        for again in (True, False):
            if self._default is None or self._default.ended or self._task != task:
                self._restart(task)
            other = Waiting(task, choice, self._threads)
            try:
                return duel(self._default, other, rounds)
            except TrialFailed:
                # Once, the end of the default is no fault of the choice.
                if not (again and self._default.ended):
                    raise
            finally:
                other.close()
        raise AssertionError("the second time raises or returns")

    def _restart(self, task: Path) -> None:
        try:
            self.begin(task)
        except TrialFailed as error:
            raise DeviceLost(f"the default does not run any more: {error}") from error

    def end(self) -> None:
        """See `Device.end`."""
        if self._default is not None:
            self._default.close()
        self._default = None

    def roofline(self) -> roofline.Roofline:
        """See `Device.roofline`; measured in a process that leaves no threads here."""

        def work(send: Send, _commands: Any) -> None:
            send(**roofline.measure(resolve("native"), self._threads).to_dict())

        return roofline.Roofline.from_dict(_answer_of(work))

    def compare(self, before: Path, after: Path, seed: int) -> dict[str, Any]:
        """See `Device.compare`."""
        return _answer_of(
            lambda send, _commands: send(**_in_turns(before, after, self._threads, seed))
        )

    def close(self) -> None:
        """See `Device.close`."""
        self.end()


def _answer_of(work: Any) -> dict[str, Any]:
    process = Process(work)
    try:
        return process.answer(START_SECONDS + 10 * WHOLE_SECONDS)
    finally:
        process.close()


def _in_turns(before: Path, after: Path, threads: int, seed: int) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    if after.is_dir():
        job = {"folder": str(after), "threads": threads, "check": read_bundle(after)["check"]}
        checked = {"right": bundle_job(job, lambda *_args, **_fields: None)["failure"] is None}
    after = library_of(after)
    models = {"before": runtime.load(before, threads), "after": runtime.load(after, threads)}
    inputs = job_inputs({"library": str(after), "inputs": [], "seed": seed})
    times: dict[str, list[float]] = {name: [] for name in models}
    begin = time.perf_counter()
    while time.perf_counter() - begin < WHOLE_SECONDS or len(times["after"]) < FEWEST_CALLS:
        for name, model in models.items():
            times[name] += timed_block(model, inputs, TURN_SECONDS)
    return {
        "before_seconds": float(np.median(times["before"])),
        "after_seconds": float(np.median(times["after"])),
        "ratio": ratio_of_medians(times["before"], times["after"]),
        **checked,
    }
