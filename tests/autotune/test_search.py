from __future__ import annotations

import numpy as np
import pytest

from tilewright.autotune import space as spaces
from tilewright.autotune.cost_model import CostModel
from tilewright.autotune.search import Search
from tilewright.autotune.space import Candidate, Space
from tilewright.targets import resolve
from tilewright.targets.rules.catalogue import Choice, lower_by
from tilewright.targets.rules.knobs import Choices, Knob

TARGET = resolve("x86-64-avx2")


@pytest.fixture
def task(tasks):
    return next(task for task in tasks if task.spec.kind == "Conv")


def _named(candidate) -> dict[str, int]:
    return dict(candidate.choice.knobs)


def test_no_choice_comes_twice_and_each_can_be_lowered(task):
    search, model, seen = Search(Space(task, TARGET), seed=0), CostModel(0), set()
    for _ in range(3):
        for candidate in search.next(8, model):
            assert candidate.key not in seen
            seen.add(candidate.key)
            lower_by(
                candidate.choice.rule, task.call, TARGET, Choices(task.call.name, _named(candidate))
            )
            search.told(candidate, 1.0)
    assert len(seen) == 24


def test_the_same_seed_draws_the_same(task):
    draws = [
        [candidate.key for candidate in Search(Space(task, TARGET), seed).next(8, CostModel(0))]
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_a_space_is_searched_to_its_end(tasks, monkeypatch):
    # Few options a knob: the whole space is small.
    real = Knob.__init__
    monkeypatch.setattr(
        Knob, "__init__", lambda self, options, default: real(self, (options[0], default), default)
    )
    task = next(task for task in tasks if task.spec.kind == "Gemm")
    search, seen = Search(Space(task, TARGET), seed=0), set()
    while batch := search.next(64, CostModel(0)):
        for candidate in batch:
            assert candidate.key not in seen
            seen.add(candidate.key)
            search.told(candidate, None)
    assert search.exhausted and 1 < len(seen) <= 64


def test_a_rule_that_cannot_lower_a_choice_does_not_end_the_search(task, monkeypatch):
    real, count = spaces.lower_by, iter(range(10_000))

    def lower_by(*arguments):
        if next(count) % 3 == 0:
            raise ZeroDivisionError("no rows")
        return real(*arguments)

    monkeypatch.setattr(spaces, "lower_by", lower_by)
    search = Search(Space(task, TARGET), seed=0)
    assert len(search.next(4, CostModel(0))) == 4
    assert search.broken["ZeroDivisionError: no rows"] > 0


def test_what_is_near_the_best_is_drawn_too(task):
    search, model = Search(Space(task, TARGET), seed=0), CostModel(0)
    (best, *_) = search.next(1, model)
    search.told(best, 0.5)
    drawn = search.next(8, model)
    shared = [len(set(_named(c).items()) & set(_named(best).items())) for c in drawn]
    assert max(shared) >= max(1, len(best.choice.knobs) - 2)


def test_the_highest_scores_come_first():
    class Table:
        name = "table"

        def anywhere(self, source):
            rows = source.randrange(40)
            return Candidate(Choice("conv", {"rows": rows}), {"rows": float(rows)})

        def near(self, base, source):
            return self.anywhere(source)

    class Model:
        trained = True

        def scores(self, facts):
            mean = np.array([row["rows"] for row in facts])
            return mean, np.zeros(len(mean))

    batch = Search(Table(), seed=0).next(10, Model())
    best, lucky = batch[:8], batch[8:]
    assert [c.score for c in best] == sorted((c.score for c in best), reverse=True)
    assert all(c.score <= best[-1].score for c in lucky) and best[0].score >= 38
