"""What a session asks of a machine that measures, be it this one or a board.

    begin(task)        start the default of a task; its result is the reference of the others
    duel(choice)       start a choice, compare its numbers, measure both in turns
    end()              stop the default

A choice that fails raises TrialFailed; a machine that does not answer any more, DeviceLost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from tilewright.analysis.roofline import Roofline
from tilewright.devices.duel import Duel

# In the folder of a task: its default's program, beside its arguments.
DEFAULT = "default"


class DeviceLost(Exception):
    """The machine is gone, or the process that talks to it."""


class Device(Protocol):
    """A machine that measures; `name` is what messages call it.

    `elsewhere`: what this machine does meanwhile does not disturb it.
    """

    name: str
    elsewhere: bool

    def begin(self, task: Path) -> list[float]:
        """Start the program in `task / DEFAULT`; seconds of some of its runs."""

    def duel(self, task: Path, choice: str, rounds: int) -> Duel:
        """Measure the program in `task / choice` against the default, for at most `rounds`."""

    def end(self) -> None:
        """Stop the default."""

    def roofline(self) -> Roofline:
        """What the machine can do on the session's threads."""

    def compare(self, before: Path, after: Path, seed: int) -> dict[str, Any]:
        """Two libraries of one model in turns: seconds of both, and how they compare.

        `after` may be a bundle, which is checked first: then `right` says what came out.
        """

    def close(self) -> None:
        """No more questions."""
