"""Draws random graphs, compiles each, compares it with ONNX Runtime, and keeps what goes wrong.

    python -m tools.fuzz --count 200 --seed 1
    python -m tools.fuzz --minutes 60 --json counts.json --keep failures
    python -m tools.fuzz --seed 1 --graph 17 42
    python -m tools.fuzz --json counts.json --again

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

import onnx

from tools.fuzz.child import Child
from tools.fuzz.drawing import Drawing
from tools.fuzz.reduce import reduced

BAD = ("MISMATCH", "CRASH", "HANG", "UNCLEAR")
_LIMIT = 60.0
# What decides which graph a number stands for.
_WHICH = ("seed", "ops", "least", "most")


class Run:
    """Counts, causes and reproductions; all of it in a file, from which a run goes on."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.counts: Counter[str] = Counter()
        # By cause: how often, in which graphs, and the smallest part that shows it.
        self.causes: dict[str, dict[str, Any]] = {}
        self.next = 0
        self.seconds = 0.0
        self._begin = time.monotonic()
        self._which = {name: getattr(arguments, name) for name in _WHICH}
        self._drawing = Drawing(**self._which)
        options = {"opt_level": arguments.level, "disable": tuple(arguments.disable or ())}
        self._child = Child(_LIMIT, options)
        if arguments.json and arguments.json.exists():
            known = json.loads(arguments.json.read_text())
            if known["which"] != self._which:
                raise SystemExit(f"{arguments.json} has graphs of {known['which']}")
            self.counts.update(known["counts"])
            self.causes, self.next = known["causes"], known["next"]
            self.seconds = known["seconds"]

    @property
    def done(self) -> bool:
        """Whether there were enough graphs, or they took long enough."""
        minutes = self.arguments.minutes
        late = minutes is not None and time.monotonic() - self._begin > 60 * minutes
        return late or self.counts.total() >= self.arguments.count

    def go_on(self) -> None:
        """Try one graph after the other, each under its number."""
        while not self.done:
            model = self._drawing.graph(self.next)
            if model is not None:
                self.one(model, self.next)
            self.next += 1
            self._save()

    def one(self, model: onnx.ModelProto, number: int) -> None:
        """Try one graph, and write down what came of it."""
        answer, folder = self._attempt(model)
        self.counts[answer["status"]] += 1
        self.seconds += answer["seconds"]
        if answer["status"] in BAD:
            self._bad(model, number, answer, folder)
        elif answer["status"] != "agree":
            self._note(f"{answer['status']}: {_plain(answer['cause'])}", answer, model, number)

    def only(self, numbers: list[int]) -> None:
        """Try the graphs of these numbers."""
        for number in numbers:
            model = self._drawing.graph(number)
            if model is None:
                print(f"{number}: not as many nodes as asked for")
            else:
                self.one(model, number)

    def again(self) -> None:
        """What the graphs that were bad come to today, in each cause's row as `now`."""
        for key, row in self.causes.items():
            if key.partition(":")[0] in BAD:
                models = [self._drawing.graph(number) for number in row["graphs"]]
                row["now"] = dict(Counter(self._attempt(model)[0]["status"] for model in models))
                print(f"{row['now']}  {key}", flush=True)
                self._save()

    def _attempt(self, model: onnx.ModelProto) -> tuple[dict[str, Any], Path]:
        answer, folder = self._child.attempt(model.SerializeToString(), self.arguments.seed)
        if "cause" in answer:
            answer["cause"] = without_folders(answer["cause"])
        return answer, folder

    def _note(self, key: str, answer: dict[str, Any], model: onnx.ModelProto, number: int) -> None:
        shown = {"count": 0, "cause": answer["cause"], "nodes": _nodes(model), "graphs": []}
        row = self.causes.setdefault(key, shown)
        row["count"] += 1
        if answer["status"] in BAD or not row["graphs"]:
            row["graphs"].append(number)

    def _bad(
        self, model: onnx.ModelProto, number: int, answer: dict[str, Any], folder: Path
    ) -> None:
        plain = _plain(answer["cause"])
        key = f"{answer['status']}: {plain}"
        small = model
        if answer["status"] == "MISMATCH" or key not in self.causes:
            small = self._reduced(model, answer["status"], plain)
            last, folder = self._attempt(small)
            answer = last if last["status"] in BAD else answer
        if answer["status"] == "MISMATCH":
            key = f"MISMATCH: {_nodes(small)}"
        new = key not in self.causes
        self._note(key, answer, small, number)
        if new:
            print(f"{number} {key}\n  {answer['cause']}\n  {_nodes(small)}", flush=True)
            if self.arguments.keep:
                place = self.arguments.keep / f"{answer['status'].lower()}-{number}"
                place.mkdir(parents=True, exist_ok=True)
                (place / "model.onnx").write_bytes(small.SerializeToString())
                (place / "whole.onnx").write_bytes(model.SerializeToString())
                (place / "cause.txt").write_text(f"{key}\n{answer['cause']}\n{_nodes(small)}\n")
                if (folder / "inputs.npz").exists():
                    shutil.copyfile(folder / "inputs.npz", place / "inputs.npz")

    def _reduced(self, model: onnx.ModelProto, status: str, plain: str) -> onnx.ModelProto:
        def fails(part: onnx.ModelProto) -> bool:
            answer, _ = self._attempt(part)
            same = status in ("MISMATCH", "HANG") or _plain(answer.get("cause", "")) == plain
            return answer["status"] == status and same

        return reduced(model, fails, self.arguments.reduce)

    def _save(self) -> None:
        if self.arguments.json is None:
            return
        shown = {
            "which": self._which,
            "next": self.next,
            "counts": dict(self.counts),
            "seconds": round(self.seconds, 1),
            "causes": self.causes,
        }
        self.arguments.json.write_text(json.dumps(shown, indent=1) + "\n")

    def close(self) -> None:
        """End the child."""
        self._child.close()


def without_folders(cause: str) -> str:
    """A cause without the folders of this machine, where packages lie in."""
    return re.sub(r'"/[^"]*?/(?=(tvm|tvm_ffi|tilewright|onnx|numpy)/[^"]*")', '"', cause)


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
    parser.add_argument("--least", type=int, default=3, help="nodes of a graph at least")
    parser.add_argument("--most", type=int, default=30, help="nodes of a graph at most")
    parser.add_argument("--level", type=int, default=2, help="-O of the compilations")
    parser.add_argument("--disable", nargs="+", help="steps that the compilations leave out")
    parser.add_argument("--json", type=Path, help="counts; a run goes on from those that it has")
    parser.add_argument("--keep", type=Path, help="a folder for reproductions")
    parser.add_argument("--reduce", type=float, default=90, help="seconds to cut a bad graph down")
    parser.add_argument("--graph", type=int, nargs="+", help="the graphs of these numbers alone")
    parser.add_argument("--again", action="store_true", help="the bad ones of --json once more")
    arguments = parser.parse_args()
    if arguments.again and not (arguments.json and arguments.json.exists()):
        parser.error("--again needs --json with what was found")
    if arguments.graph and arguments.json:
        parser.error("--graph is not counted: leave --json out")
    run = Run(arguments)
    try:
        if arguments.again:
            run.again()
        elif arguments.graph:
            run.only(arguments.graph)
        else:
            run.go_on()
    finally:
        run.close()
    print(", ".join(f"{count} {status}" for status, count in run.counts.most_common()))
    return 1 if any(run.counts[status] for status in BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
