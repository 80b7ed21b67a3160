"""Which choices of a task to try next: drawn at random and near the best, picked by the cost model.

    drawn = 32 at random + 32 that differ from one of the best in a knob or two
    tried = those with the highest scores, and a few of the drawn as they come

Choices are drawn by lowering with a Choices that draws, since what a rule asks for depends on what
it got; none is drawn twice, and none that has been tried.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.autotune.cost_model import CostModel
from tilewright.autotune.features import describe
from tilewright.autotune.tasks import Task
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import Choice, able, lower, lower_by
from tilewright.targets.rules.knobs import Choices, Knob, choosing

DRAWN = 32
# Of a batch, the share that is picked by chance: the model may be wrong.
BY_CHANCE = 0.2
# How many of the best are varied, and how likely each of their knobs is drawn again.
VARIED = 4
REDRAWN = 0.25
# Scores are raised by this times their spread.
CURIOSITY = 0.5
# Draws of one kind that may fail to bring anything new: the space is small then.
MOST_REPEATS = 200


@dataclass(frozen=True)
class Candidate:
    """A choice and what the cost model sees of it."""

    choice: Choice
    facts: Mapping[str, float]

    @property
    def key(self) -> tuple:
        """Equal for equal choices."""
        return self.choice.rule, tuple(sorted(self.choice.knobs.items()))


class Search:
    """The search over one task's choices."""

    def __init__(self, task: Task, target: Target, seed: int) -> None:
        self._task, self._target = task, target
        self._random = random.Random(f"{seed} {task.key}")
        self._rules = [rule.name for rule in able(task.call, target)]
        # Best first: seconds and choice of all that were tried and did not fail.
        self._tried: list[tuple[float, Candidate]] = []
        self._known: set[tuple] = set()
        # Nothing new was drawn: all there is has been tried.
        self.exhausted = False
        # Choices that a rule could not even lower, by what it said.
        self.broken: Counter[str] = Counter()

    def default(self) -> Candidate:
        """The choice that is made without any record."""
        drawing = _Drawing(self._task.call.name, {}, None)
        with choosing(drawing):
            rule, _ = lower(self._task.call, self._target)
        return Candidate(Choice(rule.name, {}), self._facts(rule.name, drawing))

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
        drawn = self._draw()
        self.exhausted = not drawn
        if not drawn:
            return []
        mean, spread = model.scores([candidate.facts for candidate in drawn])
        scores = mean + CURIOSITY * spread
        order = sorted(range(len(drawn)), key=lambda n: -scores[n])
        lucky = round(BY_CHANCE * count)
        picked = [drawn[n] for n in order[: count - lucky]]
        rest = [drawn[n] for n in order[count - lucky :]]
        return picked + self._random.sample(rest, min(lucky, len(rest)))

    def _draw(self) -> list[Candidate]:
        found: dict[tuple, Candidate] = {}
        repeats = 0
        while len(found) < 2 * DRAWN and repeats < MOST_REPEATS:
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
        name = self._task.call.name
        if near and self._tried:
            _, base = self._random.choice(self._tried[:VARIED])
            drawing = _Drawing(name, base.choice.knobs, self._random)
            return self._lowered(base.choice.rule, drawing)
        return self._lowered(self._random.choice(self._rules), _Drawing(name, None, self._random))

    def _lowered(self, rule: str, drawing: _Drawing) -> Candidate:
        lower_by(rule, self._task.call, self._target, drawing)
        changed = {
            name: value
            for name, value in drawing.drawn.items()
            if value != drawing.asked[name].default
        }
        return Candidate(Choice(rule, changed), self._facts(rule, drawing))

    def _facts(self, rule: str, drawing: _Drawing) -> dict[str, float]:
        return describe(rule, drawing.drawn, drawing.facts, self._target)


class _Drawing(Choices):
    """Choices that draw: near `base`, or anywhere without one; the defaults without a `source`."""

    def __init__(
        self, group: str, base: Mapping[str, int] | None, source: random.Random | None
    ) -> None:
        super().__init__(group)
        self._base, self._source = base, source
        self.drawn: dict[str, int] = {}

    def choose(self, name: str, knob: Knob) -> int:
        self.drawn[name] = self._value(name, knob)
        return self.drawn[name]

    def _value(self, name: str, knob: Knob) -> int:
        if self._base is not None:
            value = self._base.get(name, knob.default)
            keeps = self._source is None or self._source.random() >= REDRAWN
            if keeps and value in knob.options:
                return value
        return self._source.choice(knob.options) if self._source else knob.default
