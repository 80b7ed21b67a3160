"""A task on its way through a session: what was tried, what was best, how much is hoped for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tilewright.autotune.search import Search
from tilewright.autotune.space import Candidate
from tilewright.autotune.tasks import Task
from tilewright.targets.rules.catalogue import Choice

# What a batch is expected to gain before any was tried, and how fast that follows what it does.
HOPE = 0.2
FOLLOWS = 0.5
# No task is given up before so many batches.
FEWEST_BATCHES = 3
# A task whose best is so near what the machine can do is done.
NEAR_LEAST = 1.03


@dataclass(frozen=True)
class Step:
    """A trial of this session: seconds from its begin, the time over the default's or None where
    it failed, and the cost model's score before it, if it had one.
    """

    seconds: float
    ratio: float | None
    score: float | None


@dataclass
class Progress:
    """A task with `best`, the fastest choice with its time over the default's.

    `seconds` are those of the default, `least` what the machine could do with the fewest operations
    that any choice needs.
    """

    task: Task
    search: Search
    seconds: float
    least: float
    trials: int = 0
    batches: int = 0
    hope: float = HOPE
    best: tuple[float, Choice] | None = None
    failures: Counter[str] = field(default_factory=Counter)
    steps: list[Step] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The best time over the default's."""
        return self.best[0] if self.best else 1.0

    @property
    def total(self) -> float:
        """Seconds of a run of the model in the groups of this task, with the best choice."""
        return self.task.times * self.seconds * self.ratio

    def done(self, min_gain: float) -> bool:
        """Whether more trials are not worth it: with `min_gain` 0, only where all were tried."""
        if min_gain == 0:
            return self.search.exhausted
        # Not before anything was tried: what the machine can do was measured once, in a moment.
        near = self.batches > 0 and self.seconds * self.ratio <= NEAR_LEAST * self.least
        tired = self.batches >= FEWEST_BATCHES and self.hope < min_gain / 2
        return self.search.exhausted or near or tired

    def told(self, candidate: Candidate, ratio: float | None, failure: str | None) -> None:
        """Note a trial, of this session or an earlier one."""
        self.trials += 1
        self.search.told(candidate, ratio)
        if ratio is None:
            self.failures[failure or "unknown"] += 1
        elif ratio < self.ratio:
            self.best = (ratio, candidate.choice)

    def gained(self, before: float) -> None:
        """A batch is done, before which the best ratio was `before`."""
        gain = 1.0 - self.ratio / before
        self.hope = (1 - FOLLOWS) * self.hope + FOLLOWS * gain
        self.batches += 1

    def misranked(self) -> float | None:
        """Of the pairs of trials that were scored, the share that the scores put the wrong way.

        0 for a perfect cost model, 0.5 for none.
        """
        scored = [(s.score, -s.ratio) for s in self.steps if s.score is not None and s.ratio]
        pairs = wrong = 0
        for n, (score, speed) in enumerate(scored):
            for other_score, other_speed in scored[:n]:
                if score != other_score and speed != other_speed:
                    pairs += 1
                    wrong += (score > other_score) != (speed > other_speed)
        return wrong / pairs if pairs else None

    def row(self) -> dict[str, Any]:
        """As JSON values, for tables and reports."""
        return {
            "task": self.task.name,
            "spec": self.task.spec.to_dict(),
            "nodes": list(self.task.nodes),
            "times": self.task.times,
            "default_seconds": self.seconds,
            "best_seconds": self.seconds * self.ratio,
            "least_seconds": self.least,
            "trials": self.trials,
            "misranked": self.misranked(),
            "failures": {**self.failures, **self.search.broken},
            "rule": self.best[1].rule if self.best else None,
            "knobs": dict(self.best[1].knobs) if self.best else {},
        }
