from __future__ import annotations

import random

import pytest

from tilewright.autotune.space import Space
from tilewright.targets import resolve
from tilewright.targets.rules.catalogue import lower, lower_by
from tilewright.targets.rules.knobs import Choices

TARGET = resolve("x86-64-avx2")


@pytest.fixture
def task(tasks):
    return next(task for task in tasks if task.spec.kind == "Conv")


@pytest.fixture
def space(task):
    return Space(task, TARGET)


def test_the_default_is_what_is_made_without_a_record(task, space):
    default = space.default()
    assert default.choice.knobs == {}
    assert default.choice.rule == lower(task.call, TARGET)[0].name


def test_what_is_drawn_can_be_lowered(task, space):
    source = random.Random(0)
    for _ in range(12):
        candidate = space.anywhere(source)
        choices = Choices(task.call.name, dict(candidate.choice.knobs))
        lower_by(candidate.choice.rule, task.call, TARGET, choices)
        assert candidate.facts["log_products"] > 0 and candidate.score is None


def test_what_is_near_shares_most_knobs(space):
    source = random.Random(0)
    base = space.anywhere(source)
    drawn = [space.near(base, source) for _ in range(24)]
    assert {c.choice.rule for c in drawn} == {base.choice.rule}
    knobs = dict(base.choice.knobs).items()
    shared = [len(set(dict(c.choice.knobs).items()) & set(knobs)) for c in drawn]
    assert max(shared) >= max(1, len(knobs) - 2)
