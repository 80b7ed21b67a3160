"""Draws random graphs, compiles each, compares it with ONNX Runtime, and keeps what goes wrong.

    python -m tools.fuzz --count 200 --seed 1
    python -m tools.fuzz --minutes 60 --json counts.json --keep failures

Exit code 1 when a graph crashed, hung, disagreed or ended in an error that says nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import onnx
from hypothesis import HealthCheck, Phase

from tilewright.verification import strategies
from tools.fuzz.child import Child
from tools.fuzz.reduce import reduced

BAD = ("MISMATCH", "CRASH", "HANG", "UNCLEAR")
_BATCH = 50
_LIMIT = 60.0
_REDUCE_SECONDS = 90.0


class Run:
    """Counts, causes and reproductions; all of it in a file, from which a run goes on."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.counts: Counter[str] = Counter()
        # By cause: how often, and where a reproduction is.
        self.causes: dict[str, dict[str, Any]] = {}
        self.batches = 0
        self.seconds = 0.0
        self._begin = time.monotonic()
        options = {"opt_level": arguments.level, "disable": tuple(arguments.disable or ())}
        self._child = Child(_LIMIT, options)
        if arguments.json and arguments.json.exists():
            known = json.loads(arguments.json.read_text())
            self.counts.update(known["counts"])
            self.causes, self.batches = known["causes"], known["batches"]
            self.seconds = known["seconds"]

    @property
    def done(self) -> bool:
        """Whether there were enough graphs, or they took long enough."""
        minutes = self.arguments.minutes
        late = minutes is not None and time.monotonic() - self._begin > 60 * minutes
        return late or self.counts.total() >= self.arguments.count

    def batch(self) -> None:
        """Up to a batch of graphs of one seed."""
        strategy = strategies.graphs(self.arguments.ops, least=1, most=self.arguments.most)
        strategy = strategy | strategies.models() if not self.arguments.ops else strategy

        @hypothesis.seed(self.arguments.seed * 100_003 + self.batches)
        @hypothesis.settings(
            max_examples=_BATCH,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(strategy)
        def each(model: onnx.ModelProto) -> None:
            if not self.done:
                self.one(model)

        each()
        self.batches += 1

    def one(self, model: onnx.ModelProto) -> None:
        """Try one graph, and write down what came of it."""
        answer, folder = self._child.attempt(model.SerializeToString(), self.arguments.seed)
        self.counts[answer["status"]] += 1
        self.seconds += answer["seconds"]
        if answer["status"] in BAD:
            self._bad(model, answer, folder)
        elif answer["status"] != "agree":
            self._note(f"{answer['status']}: {_plain(answer['cause'])}", answer, model)
        if self.arguments.json:
            self._save()

    def _note(self, key: str, answer: dict[str, Any], model: onnx.ModelProto) -> dict[str, Any]:
        shown = {"count": 0, "cause": answer["cause"], "nodes": _nodes(model)}
        row = self.causes.setdefault(key, shown)
        row["count"] += 1
        return row

    def _bad(self, model: onnx.ModelProto, answer: dict[str, Any], folder: Path) -> None:
        plain = _plain(answer["cause"])
        key = f"{answer['status']}: {plain}"
        small = model
        if answer["status"] == "MISMATCH" or key not in self.causes:
            small = self._reduced(model, answer["status"], plain)
            last, folder = self._child.attempt(small.SerializeToString(), self.arguments.seed)
            answer = last if last["status"] in BAD else answer
        if answer["status"] == "MISMATCH":
            key = f"MISMATCH: {_nodes(small)}"
        new = key not in self.causes
        row = self._note(key, answer, small)
        if new:
            print(f"{key}\n  {answer['cause']}\n  {_nodes(small)}", flush=True)
            if self.arguments.keep:
                place = self.arguments.keep / f"{answer['status'].lower()}{len(self.causes)}"
                place.mkdir(parents=True, exist_ok=True)
                (place / "model.onnx").write_bytes(small.SerializeToString())
                (place / "whole.onnx").write_bytes(model.SerializeToString())
                (place / "cause.txt").write_text(f"{key}\n{answer['cause']}\n{_nodes(small)}\n")
                if (folder / "inputs.npz").exists():
                    shutil.copyfile(folder / "inputs.npz", place / "inputs.npz")
                row["kept"] = str(place)

    def _reduced(self, model: onnx.ModelProto, status: str, plain: str) -> onnx.ModelProto:
        def fails(part: onnx.ModelProto) -> bool:
            answer, _ = self._child.attempt(part.SerializeToString(), self.arguments.seed)
            same = status in ("MISMATCH", "HANG") or _plain(answer.get("cause", "")) == plain
            return answer["status"] == status and same

        return reduced(model, fails, _REDUCE_SECONDS)

    def _save(self) -> None:
        shown = {
            "counts": dict(self.counts),
            "batches": self.batches,
            "seconds": self.seconds,
            "causes": self.causes,
        }
        self.arguments.json.write_text(json.dumps(shown, indent=1) + "\n")

    def close(self) -> None:
        """End the child, and write the counts."""
        self._child.close()
        if self.arguments.json:
            self._save()


def _plain(cause: str) -> str:
    """A cause without what differs from graph to graph: numbers and names."""
    return re.sub(r"'[^']*'|\b[nvxc]\d+(_\d+)?\b|-?\d+(\.\d+)?(e-?\d+)?", "*", cause)[:200]


def _nodes(model: onnx.ModelProto) -> str:
    return " ".join(node.op_type for node in model.graph.node)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="how many graphs")
    parser.add_argument("--minutes", type=float, help="for how long at most")
    parser.add_argument("--seed", type=int, default=0, help="which graphs")
    parser.add_argument("--ops", nargs="+", help="draw from these rows of OPERATORS alone")
    parser.add_argument("--most", type=int, default=30, help="nodes of a graph, about")
    parser.add_argument("--level", type=int, default=2, help="-O of the compilations")
    parser.add_argument("--disable", nargs="+", help="steps that the compilations leave out")
    parser.add_argument("--json", type=Path, help="counts; a run goes on from those that it has")
    parser.add_argument("--keep", type=Path, help="a folder for reproductions")
    run = Run(parser.parse_args())
    try:
        while not run.done:
            run.batch()
    finally:
        run.close()
    print(", ".join(f"{count} {status}" for status, count in run.counts.most_common()))
    return 1 if any(run.counts[status] for status in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
