"""Two programs measured in turns, so that what else the machine does meets both.

default  |##|  |##|  |##|
other       |##|  |##|        ratio of each pair of neighbours; the median of those counts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

BLOCK_SECONDS = 0.02
FEWEST_ROUNDS, MOST_ROUNDS = 3, 8
# Slower than this in all of one, two or three rounds: it will not win any more.
HOPELESS = (1.35, 1.15, 1.05)
# The rounds agree when half of their ratios are so near each other.
AGREED = 0.02
# A block in which the default took so much longer than in its best one: others used the machine.
BUSY = 1.25


class Runs(Protocol):
    """A program that waits to be run."""

    def run(self, seconds: float) -> list[float]:
        """Seconds of each run, for about `seconds`."""


@dataclass(frozen=True)
class Duel:
    """Seconds (quartiles) of the other, the default's median, and the rounds' ratios of both."""

    seconds: tuple[float, ...]
    default_seconds: float
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Seconds of the other over those of the default, median of the rounds."""
        return float(np.median(self.ratios))

    @property
    def fair_seconds(self) -> tuple[float, ...]:
        """`seconds` with the median that fits the ratio: what disturbed both is left out."""
        factor = self.ratio * self.default_seconds / self.seconds[1]
        return tuple(q * factor for q in self.seconds)


def duel(default: Runs, other: Runs, rounds: int = MOST_ROUNDS) -> Duel:
    """Measure until the rounds agree, or the other is clearly slower.

    Raises TrialFailed when one of the processes ends.
    """
    pairs: list[tuple[list[float], list[float]]] = []
    while len(pairs) < rounds:
        pairs.append((default.run(BLOCK_SECONDS), other.run(BLOCK_SECONDS)))
        ratios = _ratios(pairs)
        if len(pairs) <= len(HOPELESS) and min(ratios) > HOPELESS[len(pairs) - 1]:
            break
        if len(ratios) >= FEWEST_ROUNDS:
            low, high = np.percentile(ratios, [25, 75])
            if high - low < AGREED:
                break
    times = [seconds for _, block in pairs for seconds in block]
    medians = [float(np.median(block)) for block, _ in pairs]
    return Duel(quartiles(times), float(np.median(medians)), tuple(_ratios(pairs)))


def _ratios(pairs: list[tuple[list[float], list[float]]]) -> list[float]:
    """Of each round that was not disturbed; of all where none is left."""
    medians = [(float(np.median(default)), float(np.median(other))) for default, other in pairs]
    best = min(default for default, _ in medians)
    calm = [other / default for default, other in medians if default <= BUSY * best]
    return calm or [other / default for default, other in medians]


def quartiles(times: Sequence[float]) -> tuple[float, float, float]:
    """25%, median and 75%, seconds."""
    return tuple(float(q) for q in np.percentile(times, [25, 50, 75]))
