from __future__ import annotations

import numpy as np

from tilewright.autotune.cost_model import FEWEST, CostModel, Sample


def _samples(task: str, count: int, seed: int, noise: float = 0.0) -> list[Sample]:
    """Choices of a task that are fast where `good` is near 0.7; `other` means nothing."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        good, other = random.random(2)
        speed = 1 / (1 + abs(good - 0.7) * 4 + noise * random.random())
        found.append(Sample(task, {"good": good, "other": other}, speed))
    return found


def _order(model: CostModel, samples: list[Sample]) -> float:
    """Rank correlation of scores and speeds."""
    scores, _ = model.scores([sample.facts for sample in samples])
    ranks = [np.argsort(np.argsort(v)) for v in (scores, [s.speed for s in samples])]
    return float(np.corrcoef(*ranks)[0, 1])


def test_learns_an_order_from_other_tasks():
    model = CostModel(seed=0)
    model.fit(_samples("a", 60, 1, 0.1) + _samples("b", 60, 2, 0.1))
    assert _order(model, _samples("c", 100, 3)) > 0.85
    assert next(iter(model.importance())) == "good"


def test_scores_are_the_same_for_the_same_seed_and_not_for_another():
    samples, wanted = _samples("a", 50, 1), [s.facts for s in _samples("b", 10, 2)]
    found = []
    for seed in (0, 0, 1):
        model = CostModel(seed)
        model.fit(samples)
        found.append(model.scores(wanted)[0])
    assert (found[0] == found[1]).all() and (found[0] != found[2]).any()


def test_too_few_trials_say_nothing():
    model = CostModel(seed=0)
    model.fit(_samples("a", FEWEST - 1, 1))
    mean, spread = model.scores([{"good": 0.1}, {"good": 0.9}])
    assert not mean.any() and not spread.any() and model.importance() == {}


def test_tasks_of_one_sample_and_unknown_features_are_no_obstacle():
    model = CostModel(seed=0)
    alone = [Sample(f"t{n}", {"new": 1.0}, 1.0, 0.3) for n in range(3)]
    model.fit(_samples("a", 30, 1) + alone)
    mean, _ = model.scores([{"good": 0.5, "never seen": 3.0}])
    assert np.isfinite(mean).all()
