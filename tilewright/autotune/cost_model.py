"""The cost model: gradient-boosted trees that rank choices by their features.

Trained on every trial known of this target, each task a group of its own, so that times of one
task are never compared with another's. Several models with different samples of the trials stand
for what is not known: where they differ, there is something to learn. Source: Chen et al. 2018,
"Learning to Optimize Tensor Programs", sections 4 and 5; XGBoost: Chen and Guestrin 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MODELS = 3
ROUNDS = 60
# Fewer trials than this say nothing yet.
FEWEST = 8
PARAMETERS = {
    "objective": "rank:pairwise",
    "eta": 0.2,
    "max_depth": 5,
    "min_child_weight": 1.0,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "nthread": 1,
}


@dataclass(frozen=True)
class Sample:
    """A trial: which task it was of, its features, and its speed, 1 for the fastest of its task."""

    task: str
    facts: Mapping[str, float]
    speed: float
    weight: float = 1.0


def samples(
    task: str, tried: Sequence[tuple[Mapping[str, float], float]], weight: float = 1.0
) -> list[Sample]:
    """Trials of one task as samples: `tried` are features and a time in any unit."""
    fastest = min((time for _, time in tried), default=1.0)
    return [Sample(task, facts, fastest / time, weight) for facts, time in tried]


class CostModel:
    """Scores of choices; higher is faster."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._boosters: list = []
        self._names: list[str] = []

    @property
    def trained(self) -> bool:
        """Whether scores mean anything."""
        return bool(self._boosters)

    def fit(self, samples: Sequence[Sample]) -> None:
        """Learn from all `samples`."""
        if len(samples) < FEWEST:
            return
        import xgboost

        ordered = sorted(samples, key=lambda sample: sample.task)
        self._names = sorted({name for sample in ordered for name in sample.facts})
        sizes = _runs([sample.task for sample in ordered])
        data = xgboost.DMatrix(self._matrix([sample.facts for sample in ordered]))
        data.set_label([sample.speed for sample in ordered])
        data.set_group(sizes)
        starts = np.cumsum([0, *sizes[:-1]])
        data.set_weight([ordered[start].weight for start in starts])
        self._boosters = [
            xgboost.train({**PARAMETERS, "seed": self._seed * MODELS + n}, data, ROUNDS)
            for n in range(MODELS)
        ]

    def scores(self, facts: Sequence[Mapping[str, float]]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread of the scores; both 0 before anything is learnt."""
        if not self._boosters or not facts:
            return np.zeros(len(facts)), np.zeros(len(facts))
        import xgboost

        data = xgboost.DMatrix(self._matrix(facts))
        each = np.stack([booster.predict(data) for booster in self._boosters])
        return each.mean(axis=0), each.std(axis=0)

    def importance(self) -> dict[str, float]:
        """Share of each feature in what the trees gained, largest first."""
        gains: dict[str, float] = {}
        for booster in self._boosters:
            for key, gain in booster.get_score(importance_type="total_gain").items():
                name = self._names[int(key.removeprefix("f"))]
                gains[name] = gains.get(name, 0.0) + gain
        total = sum(gains.values()) or 1.0
        return {name: gain / total for name, gain in sorted(gains.items(), key=lambda g: -g[1])}

    def _matrix(self, facts: Sequence[Mapping[str, float]]) -> np.ndarray:
        rows = [[row.get(name, np.nan) for name in self._names] for row in facts]
        return np.array(rows, dtype=np.float32)


def _runs(values: Sequence[str]) -> list[int]:
    """Lengths of the runs of equal neighbours."""
    sizes: list[int] = []
    for n, value in enumerate(values):
        if n and value == values[n - 1]:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return sizes
