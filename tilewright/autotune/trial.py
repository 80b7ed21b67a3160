"""A trial: one choice for one task, in a process of its own that may crash or hang alone.

The process is a copy of the session's (`fork`), so that it starts at once with everything imported.
It lowers, compiles and checks; then it waits, and runs when it is told to, so that several can be
compiled at the same time and measured one by one, in turns with another.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.autotune.program import Conditions, Program
from tilewright.autotune.tasks import Task, inputs_of
from tilewright.compiler.child import how_it_ended
from tilewright.compiler.operations import operations
from tilewright.targets.rules.catalogue import Choice, lower, lower_by
from tilewright.targets.rules.knobs import Choices, choosing

BUILD_SECONDS = 120.0
RUN_SECONDS = 20.0
# Rounding errors of a sum of k products, in units in the last place of its scale: they grow with
# the root of k, of which a few times the expected size is allowed (Higham 2002, section 3.1).
ULP = 2.0**-23
# What the transforms of Winograd's algorithm for 4x4 outputs make of them: measured 8 to 20 times.
WINOGRAD_GROWTH = 64


class TrialFailed(Exception):
    """The choice is no good: it did not compile, ran too long, died, or computed something else."""


class Trial:
    """The session's side: the process that tries one choice."""

    def __init__(self, work: Callable[[Callable[..., None], Any], None]) -> None:
        """Start a process that calls `work(send, receive)`; it ends when `work` does."""
        told, tell = os.pipe()
        hear, say = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads; none holds what a trial needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(tell)
                os.close(hear)
                _child(work, told, say)
            finally:
                os._exit(1)
        os.close(told)
        os.close(say)
        self._tell, self._hear, self._buffer = tell, hear, b""
        self._ended, self._code = False, 0

    def answer(self, seconds: float) -> dict[str, Any]:
        """What the process says next. Raises TrialFailed when it fails, dies or takes too long."""
        if self._ended:
            raise self._died()
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._hear], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.close()
                raise TrialFailed(f"it took longer than {seconds:g} s")
            data = os.read(self._hear, 1 << 16)
            if not data:
                self._wait()
                raise self._died()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        said = json.loads(line)
        if "failure" in said:
            self.close()
            raise TrialFailed(said["failure"])
        return said

    def run(self, seconds: float) -> list[float]:
        """Seconds of each run of the group, for about `seconds`."""
        if not self._ended:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._tell, f"{seconds}\n".encode())
        return self.answer(seconds + RUN_SECONDS)["times"]

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended."""
        return self._ended

    def close(self) -> None:
        """End the process."""
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()

    def _died(self) -> TrialFailed:
        return TrialFailed(f"its process ended: {how_it_ended(self._code)}")

    def _wait(self) -> None:
        if not self._ended:
            self._ended = True
            _, status = os.waitpid(self.pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
            os.close(self._tell)
            os.close(self._hear)


def _child(work: Callable[..., None], told: int, say: int) -> None:
    """The process: `work`, whose exceptions the session is told of."""

    def send(**fields: Any) -> None:
        os.write(say, (json.dumps(fields) + "\n").encode())

    # TVM's own handler prints a page and may hang in what is broken already.
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    with os.fdopen(told, "r") as commands:
        try:
            work(send, commands)
            os._exit(0)
        except TrialFailed as error:
            send(failure=str(error))
        except Exception as error:
            traceback.print_exc()
            send(failure=f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:200]}")
        sys.stderr.flush()
        os._exit(0)


def start(task: Task, choice: Choice | None, conditions: Conditions, reference: Path) -> Trial:
    """Begin to try `choice`, or the default, whose result is kept in `reference` for the others."""

    def work(send: Callable[..., None], commands: Any) -> None:
        choices = Choices(task.call.name, choice.knobs if choice else {})
        if choice is None:
            with choosing(choices):
                rule, lowered = lower(task.call, conditions.target)
        else:
            rule, lowered = lower_by(choice.rule, task.call, conditions.target, choices)
        arguments = inputs_of(task, conditions.seed)
        with tempfile.TemporaryDirectory(dir=conditions.folder) as folder:
            program = Program(task, lowered, arguments, conditions, Path(folder))
        result = program.result()
        if choice is None:
            np.save(reference, result)
        else:
            _compare(result, np.load(reference), rule.name, _depth(task, choices.facts))
        work_done = [operations(launch.kernel) for launch in lowered.launches]
        send(rule=rule.name, flops=None if None in work_done else sum(work_done))
        for line in commands:
            send(times=program.times(float(line)))

    return Trial(work)


def _depth(task: Task, facts: dict[str, dict[str, float]]) -> int:
    """Terms of the longest sum: what the rule says, or else all that a group reads."""
    said = [int(kernel["k"]) for kernel in facts.values() if "k" in kernel]
    sizes = [int(np.prod(argument.shape)) for argument in task.call.arguments]
    return max(said or sizes)


def _compare(result: np.ndarray, wanted: np.ndarray, rule: str, depth: int) -> None:
    """Raise TrialFailed unless the numbers agree as far as their rounding errors allow."""
    if not np.isfinite(result).all():
        raise TrialFailed("it computes what is no number")
    scale = max(1.0, float(np.abs(wanted).max()))
    growth = WINOGRAD_GROWTH if rule == "winograd" else 1
    allowed = scale * (4 + depth**0.5) * 4 * growth * ULP
    worst = float(np.abs(result - wanted).max())
    if worst > allowed:
        raise TrialFailed(f"its numbers are wrong: off by {worst:.3g}, allowed {allowed:.3g}")


def quartiles(times: Sequence[float]) -> tuple[float, float, float]:
    """25%, median and 75%, seconds."""
    return tuple(float(q) for q in np.percentile(times, [25, 50, 75]))
