from __future__ import annotations

from types import SimpleNamespace

import pytest

from tilewright.autotune.progress import FEWEST_BATCHES, Progress, Step
from tilewright.autotune.search import Search
from tilewright.autotune.space import Candidate
from tilewright.targets.rules.catalogue import Choice


def _candidate(rows: int) -> Candidate:
    return Candidate(Choice("conv", {"rows": rows}), {})


@pytest.fixture
def one():
    task = SimpleNamespace(times=3, name="t")
    return Progress(task, Search(SimpleNamespace(name="t"), 0), seconds=2.0, least=0.5)


def test_the_best_of_what_was_tried(one):
    assert one.ratio == 1.0 and one.total == 6.0
    one.told(_candidate(1), 0.9, None)
    one.told(_candidate(2), 0.5, None)
    one.told(_candidate(3), 0.7, None)
    one.told(_candidate(4), None, "it crashed")
    assert one.ratio == 0.5 and one.best[1].knobs == {"rows": 2} and one.total == 3.0
    assert one.trials == 4 and one.failures == {"it crashed": 1}


def test_a_task_is_left_when_its_gains_fade(one):
    for _ in range(FEWEST_BATCHES - 1):
        one.gained(before=1.0)
        assert not one.done(0.01)
    for _ in range(4):
        one.gained(before=1.0)
    assert one.done(0.01) and not one.done(0.0)


def test_a_task_is_done_near_what_the_machine_can_do(one):
    one.told(_candidate(1), 0.2505, None)
    assert not one.done(0.01)
    one.gained(before=1.0)
    assert one.done(0.01)


def test_without_a_least_gain_all_is_tried(one):
    one.told(_candidate(1), 0.2505, None)
    for _ in range(3 * FEWEST_BATCHES):
        one.gained(before=one.ratio)
    assert one.done(0.01) and not one.done(0.0)
    one.search.exhausted = True
    assert one.done(0.0)


@pytest.mark.parametrize(
    "steps, share",
    [
        ([(0.9, 0.1), (0.8, 0.2), (0.7, 0.3)], 0.0),
        ([(0.9, 0.3), (0.8, 0.2), (0.7, 0.1)], 1.0),
        ([(0.9, 0.1), (0.7, 0.2), (0.8, 0.3)], 1 / 3),
        ([(0.9, None), (None, 0.3), (0.7, 0.1)], None),
    ],
)
def test_pairs_in_the_wrong_order(one, steps, share):
    one.steps = [Step(0.0, ratio, score) for ratio, score in steps]
    assert one.misranked() == (share if share is None else pytest.approx(share))
