"""Which choices of a task to try next: drawn at random and near the best, picked by the cost model.

    drawn = four for each: half at random, half that differ from one of the best in a knob or two
    tried = those with the highest scores, and a few of the drawn as they come

None is drawn twice, and none that has been tried.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Protocol

from tilewright.autotune.cost_model import CostModel
from tilewright.autotune.space import Candidate

# So many are drawn for each that is tried.
DRAWN = 4
# Of a batch, the share that is picked by chance: the model may be wrong.
BY_CHANCE = 0.2
# How many of the best are varied.
VARIED = 4
# Scores are raised by this times their spread.
CURIOSITY = 0.5
# Draws of one kind that may fail to bring anything new: the space is small then.
MOST_REPEATS = 200


class Draws(Protocol):
    """What a search draws from: a `Space`, or a table of what was measured of one."""

    name: str

    def anywhere(self, source: random.Random) -> Candidate:
        """Any choice."""

    def near(self, base: Candidate, source: random.Random) -> Candidate:
        """A choice like `base`."""


class Search:
    """The search over one task's choices."""

    def __init__(self, space: Draws, seed: int) -> None:
        self._space = space
        self._random = random.Random(f"{seed} {space.name}")
        # Best first: seconds and choice of all that were tried and did not fail.
        self._tried: list[tuple[float, Candidate]] = []
        self._known: set[tuple] = set()
        # Nothing new was drawn: all there is has been tried.
        self.exhausted = False
        # Choices that a rule could not even lower, by what it said.
        self.broken: Counter[str] = Counter()

    def told(self, candidate: Candidate, seconds: float | None) -> None:
        """Note the time of a choice; None where it failed."""
        self._known.add(candidate.key)
        if seconds is not None:
            self._tried.append((seconds, candidate))
            self._tried.sort(key=lambda pair: pair[0])

    def best(self, count: int, most: float) -> list[Candidate]:
        """The fastest of those whose time is at most `most`, at most `count` of them."""
        return [candidate for seconds, candidate in self._tried[:count] if seconds <= most]

    def next(self, count: int, model: CostModel) -> list[Candidate]:
        """At most `count` choices to try; fewer, or none, where all have been tried."""
        drawn = self._draw(DRAWN * count)
        self.exhausted = not drawn
        if not drawn:
            return []
        if not model.trained:
            return self._random.sample(drawn, min(count, len(drawn)))
        mean, spread = model.scores([candidate.facts for candidate in drawn])
        wanted = mean + CURIOSITY * spread
        order = sorted(range(len(drawn)), key=lambda n: -wanted[n])
        scored = [replace(drawn[n], score=float(mean[n])) for n in order]
        lucky = round(BY_CHANCE * count)
        rest = scored[count - lucky :]
        return scored[: count - lucky] + self._random.sample(rest, min(lucky, len(rest)))

    def _draw(self, count: int) -> list[Candidate]:
        found: dict[tuple, Candidate] = {}
        repeats = 0
        while len(found) < count and repeats < MOST_REPEATS:
            try:
                candidate = self._one(near=len(found) % 2 == 1)
            except Exception as error:  # Whatever a rule makes of odd knobs: the session goes on.
                self.broken[f"{type(error).__name__}: {error}"[:200]] += 1
                repeats += 1
                continue
            if candidate.key in self._known or candidate.key in found:
                repeats += 1
            else:
                found[candidate.key] = candidate
        return list(found.values())

    def _one(self, near: bool) -> Candidate:
        if near and self._tried:
            _, base = self._random.choice(self._tried[:VARIED])
            return self._space.near(base, self._random)
        return self._space.anywhere(self._random)
