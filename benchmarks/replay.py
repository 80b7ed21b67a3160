"""What the cost model is worth: trials until a search is near the best, replayed from tables.

    python -m benchmarks.replay --record [--tasks NAME ...] [--samples 1000] [--threads 1]
    python -m benchmarks.replay [--seeds 10]

With --record, the choices of each task are measured, all of them or so many samples, by the same
trials as a session's, and kept in results/spaces/. Replayed, nothing is measured: a search is told
the times in the table. Counted are trials until one is within 3% of the table's best, for random
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
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tilewright
from benchmarks import machine
from benchmarks.kernels import model_of
from benchmarks.operators import Conv, Gemm
from tilewright.autotune.cost_model import CostModel, samples
from tilewright.autotune.records import Database
from tilewright.autotune.search import Search
from tilewright.autotune.session import BATCH
from tilewright.autotune.space import REDRAWN, Candidate
from tilewright.targets.rules.catalogue import Choice

NAME = "replay"
SPACES = machine.RESULTS / "spaces"
PLOT = Path(__file__).resolve().parents[1] / "docs" / "replay.svg"
NEAR = 1.03
RANDOM, MODEL, WARM = "random", "cost model", "cost model, warm"
# One operator each, from networks of different kinds.
TASKS: dict[str, Conv | Gemm] = {
    "resnet_stem": Conv(3, 224, 64, 7, stride=2),
    "resnet_3x3_56": Conv(64, 56, 64, 3),
    "resnet_3x3_14": Conv(256, 14, 256, 3),
    "resnet_3x3_7": Conv(512, 7, 512, 3),
    "resnet_3x3_stride": Conv(128, 56, 128, 3, stride=2),
    "resnet_expand": Conv(128, 28, 512, 1),
    "mobilenet_project": Conv(384, 14, 64, 1),
    "mobilenet_head": Conv(320, 7, 1280, 1),
    "bert_up": Gemm(128, 768, 3072),
    "bert_down": Gemm(128, 3072, 768),
    "vit_out": Gemm(197, 768, 768),
    "whisper_up": Gemm(1500, 384, 1536),
}


def main(words: Sequence[str] | None = None) -> int:
    """Record or replay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="measure the choices first")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--samples", type=int, default=1000, help="choices of a task at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", default=NAME, help="name of the results file")
    arguments = parser.parse_args(words)
    if arguments.record:
        for name in arguments.tasks:
            record(name, arguments.samples, arguments.threads)
        return 0
    tables = {name: Table.read(name) for name in TASKS if _file(name).is_file()}
    rows = {name: replay(name, tables, arguments.seeds) for name in tables}
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


def record(name: str, count: int, threads: int) -> None:
    """Measure at most `count` choices of a task and keep them."""
    with tempfile.TemporaryDirectory() as folder:
        model, db = Path(folder) / "model.onnx", Path(folder) / "records.jsonl"
        model.write_bytes(model_of(TASKS[name]).SerializeToString())
        # Without a least gain no task is left early: the search ends when there is nothing new.
        found = tilewright.tune(
            model, db=db, trials=count, budget=None, min_gain=0.0, threads=threads
        )
        trials = [record for record in Database(db).read()[0] if not record.confirmed]
    rows = [
        {"rule": r.rule, "knobs": dict(r.knobs), "facts": dict(r.facts), "ratio": _ratio(r)}
        for r in trials
    ]
    whole = len(trials) < count
    SPACES.mkdir(parents=True, exist_ok=True)
    data = {"machine": machine.describe(), "threads": threads, "whole": whole, "rows": rows}
    _file(name).write_bytes(gzip.compress(json.dumps(data).encode(), mtime=0))
    took = found["seconds"]
    print(f"{name}: {len(rows)} choices in {took:.0f} s{', all there are' if whole else ''}")


def _ratio(record: Any) -> float | None:
    return record.median / record.default_seconds if record.seconds else None


def _file(name: str) -> Path:
    return SPACES / f"{name}.json.gz"


@dataclass
class Table:
    """Choices of a task that were measured, with the time of each over the default's."""

    name: str
    candidates: list[Candidate]
    ratios: dict[tuple, float | None]

    @staticmethod
    def read(name: str) -> Table:
        """What `record` kept."""
        rows = json.loads(gzip.decompress(_file(name).read_bytes()))["rows"]
        candidates = [Candidate(Choice(r["rule"], r["knobs"]), r["facts"]) for r in rows]
        return Table(
            name,
            candidates,
            {c.key: row["ratio"] for c, row in zip(candidates, rows, strict=True)},
        )

    @property
    def best(self) -> float:
        """The least ratio; that of the default, 1, where nothing is better."""
        return min(1.0, *(ratio for ratio in self.ratios.values() if ratio is not None))

    @property
    def tried(self) -> list[tuple[dict[str, float], float]]:
        """Features and ratios, as of earlier records."""
        return [(dict(c.facts), r) for c in self.candidates if (r := self.ratios[c.key])]

    def anywhere(self, source: random.Random) -> Candidate:
        """Any row."""
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
    tried: list[tuple[dict[str, float], float]] = []
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
