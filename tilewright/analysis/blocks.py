"""Runs of equal blocks in a model: the encoder layers of a transformer, the stages of a network.

A block is the shortest sequence of groups and single operators that follows itself at least
once more. Two items are equal when they call the same kernel, or are the same operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A block of one item, or one longer than this, tells a reader nothing.
SHORTEST, LONGEST = 2, 64


@dataclass(frozen=True)
class Run:
    """`count` blocks of `length` items each, the first at item `start`."""

    start: int
    length: int
    count: int

    @property
    def stop(self) -> int:
        """The item after the last block."""
        return self.start + self.length * self.count


def runs_of(items: Sequence[str]) -> list[Run]:
    """Runs of at least two equal blocks, from the front; of several at one place the longest.

    Where two are equally long the shorter block is taken: it is repeated more often.
    """
    found: list[Run] = []
    start = 0
    while start < len(items):
        run = max(
            (_run_at(items, start, length) for length in range(SHORTEST, LONGEST + 1)),
            key=lambda run: (run.count > 1, run.stop, -run.length),
        )
        if run.count > 1 and not _starts_later(items, run):
            found.append(run)
            start = run.stop
        else:
            start += 1
    return found


def _run_at(items: Sequence[str], start: int, length: int) -> Run:
    block = items[start : start + length]
    if len(set(block)) < SHORTEST:
        return Run(start, length, 0)
    stop = start + length
    while items[stop : stop + length] == block:
        stop += length
    return Run(start, length, (stop - start) // length)


def _starts_later(items: Sequence[str], run: Run) -> bool:
    """Whether a run that reaches further starts inside the first block of `run`."""
    later = (
        _run_at(items, start, length)
        for start in range(run.start + 1, run.start + run.length)
        for length in range(run.length + 1, LONGEST + 1)
    )
    return any(other.count > 1 and other.stop > run.stop for other in later)
