"""What the cost model is worth: trials until a search is near the best, replayed from tables.

    python -m benchmarks.replay [--seeds 10]

Nothing is measured: a search is told the times in a table of `benchmarks.spaces`, that of the
default before it begins. Counted are trials until one is within 3% of the table's best, for random
search, for the search with its cost model, and for that with the other tasks' tables as earlier
records; medians over seeds. Tasks whose default is that near already are left out. Writes
results/replay.json and docs/replay.svg.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.spaces import TASKS, file_of
from tilewright.autotune.cost_model import CostModel, samples
from tilewright.autotune.search import Search
from tilewright.autotune.session import BATCH
from tilewright.autotune.space import REDRAWN, Candidate
from tilewright.targets.rules.catalogue import Choice

NAME = "replay"
PLOT = Path(__file__).resolve().parents[1] / "docs" / "replay.svg"
NEAR = 1.03
RANDOM, MODEL, WARM = "random", "cost model", "cost model, warm"


def main(words: Sequence[str] | None = None) -> int:
    """Replay all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", default=NAME, help="name of the results file")
    arguments = parser.parse_args(words)
    tables = {name: Table.read(name) for name in TASKS if file_of(name).is_file()}
    # Fresh processes: a fork of one that has trained a model would wait for its threads for ever.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        done = pool.map(replay, tables, repeat(tables), repeat(arguments.seeds))
        rows = dict(zip(tables, done, strict=True))
    kept = {name: row for name, row in rows.items() if row["default"] > NEAR}
    found = {"near": NEAR, "seeds": arguments.seeds, "tasks": rows, "summary": summary(kept)}
    machine.write(arguments.output, found)
    for name, row in rows.items():
        print(f"{name}: {_text(row)}")
    for name, value in found["summary"].items():
        print(f"{name}: {value:.3f}")
    plot(kept)
    print(f"raw figures in {machine.RESULTS / arguments.output}.json, drawn in {PLOT}")
    return 0


@dataclass
class Table:
    """Choices of a task that were measured, with the time of each over the default's."""

    name: str
    default: Candidate
    candidates: list[Candidate]
    ratios: dict[tuple, float | None]

    @staticmethod
    def read(name: str) -> Table:
        """What `benchmarks.spaces` kept."""
        rows = json.loads(gzip.decompress(file_of(name).read_bytes()))["rows"]
        read = [Candidate(Choice(r["rule"], r["knobs"]), r["facts"]) for r in rows]
        ratios = {c.key: row["ratio"] for c, row in zip(read, rows, strict=True)}
        return Table(name, read[0], read[1:], ratios)

    @property
    def best(self) -> float:
        """The least ratio; that of the default, 1, where nothing is better."""
        return min(ratio for ratio in self.ratios.values() if ratio is not None)

    @property
    def tried(self) -> list[tuple[dict[str, float], float]]:
        """Features and ratios, as of earlier records."""
        known = (self.default, *self.candidates)
        return [(dict(c.facts), r) for c in known if (r := self.ratios[c.key])]

    def anywhere(self, source: random.Random) -> Candidate:
        """Any row but the default's."""
        return source.choice(self.candidates)

    def near(self, base: Candidate, source: random.Random) -> Candidate:
        """A row that is `base` in those of its knobs that are not drawn again."""
        names = {name for c in self.candidates for name in c.choice.knobs}
        kept = {n: base.choice.knobs.get(n) for n in sorted(names) if source.random() >= REDRAWN}
        like = [
            c
            for c in self.candidates
            if c.choice.rule == base.choice.rule
            and all(c.choice.knobs.get(n) == value for n, value in kept.items())
        ]
        return source.choice(like or self.candidates)


def replay(name: str, tables: dict[str, Table], seeds: int) -> dict[str, Any]:
    """Trials of each kind of search on one table: medians, and each seed's."""
    table = tables[name]
    others = [sample for n, t in tables.items() if n != name for sample in samples(n, t.tried)]
    kinds = {
        RANDOM: lambda seed: _shuffled(table, seed),
        MODEL: lambda seed: _searched(table, [], seed),
        WARM: lambda seed: _searched(table, others, seed),
    }
    found = {
        kind: [_trials_until_near(table, order(seed)) for seed in range(seeds)]
        for kind, order in kinds.items()
    }
    return {
        "choices": len(table.candidates),
        "default": 1.0 / table.best,
        "median": {kind: statistics.median(trials) for kind, trials in found.items()},
        "trials": found,
    }


def _trials_until_near(table: Table, order: Iterator[Candidate]) -> int:
    for count, candidate in enumerate(order, 1):
        ratio = table.ratios[candidate.key]
        if ratio is not None and ratio <= NEAR * table.best:
            return count
    return len(table.candidates)


def _shuffled(table: Table, seed: int) -> Iterator[Candidate]:
    return iter(random.Random(seed).sample(table.candidates, len(table.candidates)))


def _searched(table: Table, others: list, seed: int) -> Iterator[Candidate]:
    """The choices in the order in which a session would try them."""
    search, model = Search(table, seed), CostModel(seed)
    search.told(table.default, 1.0)
    tried: list[tuple[dict[str, float], float]] = [(dict(table.default.facts), 1.0)]
    while True:
        model.fit([*samples(table.name, tried), *others])
        batch = search.next(BATCH, model)
        if not batch:
            return
        yield from batch
        for candidate in batch:
            ratio = table.ratios[candidate.key]
            search.told(candidate, ratio)
            if ratio is not None:
                tried.append((dict(candidate.facts), ratio))


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Medians over tasks of the trials of both searches over those of random search."""
    found: dict[str, float] = {"tasks": float(len(rows))}
    for kind in (MODEL, WARM) if rows else ():
        shares = [row["median"][kind] / row["median"][RANDOM] for row in rows.values()]
        found[f"{kind} / random, median"] = statistics.median(shares)
        found[f"{kind} / random, most"] = max(shares)
    return found


def plot(rows: dict[str, dict[str, Any]]) -> None:
    """Trials of each kind of search, task by task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot(ylabel="trials until within 3% of the best", yscale="log")
    width = 0.27
    for number, kind in enumerate((RANDOM, MODEL, WARM)):
        places = [place + (number - 1) * width for place in range(len(rows))]
        axes.bar(places, [row["median"][kind] for row in rows.values()], width, label=kind)
    axes.set_xticks(range(len(rows)), list(rows), rotation=30, ha="right", fontsize="small")
    axes.legend()
    figure.savefig(PLOT, metadata={"Date": None})


def _text(row: dict[str, Any]) -> str:
    trials = ", ".join(f"{kind} {count:g}" for kind, count in row["median"].items())
    return f"{row['choices']} choices, the best {row['default']:.3f} times the default; {trials}"


if __name__ == "__main__":
    sys.exit(main())
