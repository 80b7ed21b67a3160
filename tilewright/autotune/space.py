"""The choices of a task: every rule that takes it, with every value that it lets its knobs have.

Choices are drawn by lowering with a Choices that draws, since what a rule asks for depends on what
it got.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.autotune.features import describe
from tilewright.autotune.tasks import Task
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import Choice, able, lower, lower_by
from tilewright.targets.rules.knobs import Choices, Knob, choosing
from tilewright.targets.rules.tir import outlined

# How likely each knob of a choice is drawn again by `near`.
REDRAWN = 0.25


@dataclass(frozen=True)
class Candidate:
    """A choice, what the cost model sees of it, and the score that it gave it, if any."""

    choice: Choice
    facts: Mapping[str, float]
    score: float | None = None

    @property
    def key(self) -> tuple:
        """Equal for equal choices."""
        return self.choice.rule, tuple(sorted(self.choice.knobs.items()))


class Space:
    """All choices of one task."""

    def __init__(self, task: Task, target: Target) -> None:
        self._task, self._target = task, target
        self._rules = [rule.name for rule in able(task.call, target)]

    @property
    def name(self) -> str:
        """What the task's random numbers begin with."""
        return self._task.key

    def default(self) -> Candidate:
        """The choice that is made without any record."""
        drawing = _Drawing(self._task.call.name, {}, None)
        with outlined(), choosing(drawing):
            rule, _ = lower(self._task.call, self._target)
        return Candidate(Choice(rule.name, {}), self._facts(rule.name, drawing))

    def anywhere(self, source: random.Random) -> Candidate:
        """Any choice. Whatever a rule makes of odd knobs is raised."""
        drawing = _Drawing(self._task.call.name, None, source)
        return self._lowered(source.choice(self._rules), drawing)

    def near(self, base: Candidate, source: random.Random) -> Candidate:
        """A choice that differs from `base` in a knob or two."""
        drawing = _Drawing(self._task.call.name, base.choice.knobs, source)
        return self._lowered(base.choice.rule, drawing)

    def _lowered(self, rule: str, drawing: _Drawing) -> Candidate:
        with outlined():
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
