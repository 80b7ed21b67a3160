"""A process that may crash or hang alone: a copy of this one (`fork`) that answers over pipes.

Being a copy, it starts at once with everything imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from tilewright.compiler.child import how_it_ended

Send = Callable[..., None]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class TrialFailed(Exception):
    """What is tried is no good: it did not compile, ran too long, died, or computed wrongly."""


class Process:
    """The parent's side."""

    def __init__(self, work: Callable[[Send, Iterable[dict[str, Any]]], None]) -> None:
        """Start a process that calls `work(send, commands)`; it ends when `work` does.

        `send(**fields)` there is an answer here; `commands` are what `tell` is given here.
        """
        parent = os.getpid()
        told, tell = os.pipe()
        hear, say = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads; none holds what the copy needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(tell)
                os.close(hear)
                _end_with(parent)
                _child(work, told, say)
            finally:
                os._exit(1)
        os.close(told)
        os.close(say)
        self._tell, self._hear, self._buffer = tell, hear, b""
        self._ended, self._code = False, 0

    def tell(self, **fields: Any) -> None:
        """Give the process a command. That it has ended is told by the next `answer`."""
        if not self._ended:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._tell, (json.dumps(fields) + "\n").encode())

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


def _end_with(parent: int) -> None:
    """What hangs must not outlive the one that would end it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # It ended before it could be asked for.


def _child(work: Callable[..., None], told: int, say: int) -> None:
    """The process: `work`, whose exceptions the parent is told of."""

    def send(**fields: Any) -> None:
        os.write(say, (json.dumps(fields) + "\n").encode())

    # TVM's own handler prints a page and may hang in what is broken already.
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    with os.fdopen(told, "r") as lines:
        try:
            work(send, map(json.loads, lines))
            os._exit(0)
        except TrialFailed as error:
            send(failure=str(error))
        except Exception as error:
            traceback.print_exc()
            said = str(error).strip().splitlines() or [""]
            send(failure=f"{type(error).__name__}: {said[-1][:200]}")
        sys.stderr.flush()
        os._exit(0)
