"""What fusion is worth in time: the development models with all fusions, none, and without each.

    python -m benchmarks.fusion_speed [--models NAME ...] [--threads 1 2] [--seconds 20] [--resume]

The libraries of a model take turns in one process (benchmarks/turns.py); ratios are to the one with
all fusions: above 1 the fusion pays. Only fusions that find something
in a model are left out of it. Writes results/fusion_speed.json after each model.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import latency, machine, turns
from benchmarks.models import MODELS
from benchmarks.turns import Engine

ALL, NONE = "all", "none"
NAMES = tuple(fusion.name for fusion in tilewright.DEFAULT_FUSIONS)


def main(words: Sequence[str] | None = None) -> int:
    """Run the models named on the command line, all of them by default."""
    parser = latency.parser(__doc__)
    parser.set_defaults(output="fusion_speed")
    arguments = parser.parse_args(words)
    rows = latency.earlier(arguments.output) if arguments.resume else {}
    for name in arguments.models:
        wanted = [n for n in arguments.threads if str(n) not in rows.get(name, {}).get("runs", {})]
        if not wanted:
            continue
        found = measure(name, arguments.zoo / "models" / f"{name}.onnx", wanted, arguments.seconds)
        found["runs"] = {**rows.get(name, {}).get("runs", {}), **found["runs"]}
        rows[name] = found
        machine.write(arguments.output, {"seconds": arguments.seconds, "models": rows})
        print(f"{name}: {found.get('error') or 'done'}", file=sys.stderr)
    print_table(rows)
    slower = losses(rows)
    for text in slower:
        print(text)
    print(f"raw figures in {machine.RESULTS / arguments.output}.json")
    return 1 if slower or any("error" in row for row in rows.values()) else 0


def measure(name: str, model: Path, threads: Sequence[int], seconds: float) -> dict[str, Any]:
    """Times of one model's variants, or the error that stopped it."""
    shapes = MODELS.get(name, {})
    with tempfile.TemporaryDirectory() as folder:
        feed, engines = Path(folder) / "feed.npz", []
        try:
            groups = tilewright.analyze(model, shapes=shapes)["groups"]
            firing = [n for n in NAMES if n in {group["fusion"] for group in groups}]
            disabled = {ALL: (), NONE: NAMES, **{n: (n,) for n in firing}}
            for variant, names in disabled.items():
                library = Path(folder) / f"{variant}.so"
                options = tilewright.CompileOptions(disable=names)
                tilewright.compile(
                    model, shapes=shapes, options=options, check=False, db=False
                ).save(library)
                engines.append(Engine(variant, "tilewright", str(library)))
            latency.write_inputs(name, library, feed)
            runs = {str(n): turns.measure(engines, feed, n, seconds) for n in threads}
        except tilewright.TilewrightError as error:
            return {"runs": {}, "error": str(error)}
    return {"runs": runs}


def losses(rows: latency.Rows) -> list[str]:
    """Models that a fusion, or all of them, makes slower: the interval lies below 1."""
    return [
        f"{name}, {number} threads: faster without {variant if variant != NONE else 'any fusion'}: "
        f"{ratio['median']:.3f} ({ratio['low']:.3f} .. {ratio['high']:.3f})"
        for name, row in rows.items()
        for number, run in row["runs"].items()
        for variant, ratio in run["ratios"].items()
        if ratio["high"] < 1
    ]


def print_table(rows: latency.Rows) -> None:
    """Per model: the time with all fusions, and without each over it."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("model", "threads", "all, ms", "none", "without each"):
        table.add_column(title, overflow="fold")
    for name, row in rows.items():
        if "error" in row:
            table.add_row(name, "", "", "", row["error"][:80])
        for number, run in row["runs"].items():
            ratios = {variant: ratio["median"] for variant, ratio in run["ratios"].items()}
            none = ratios.pop(NONE)
            each = ", ".join(f"{fusion} {ratio:.2f}" for fusion, ratio in ratios.items())
            milliseconds = run["engines"][ALL]["median"] * 1e3
            table.add_row(name, number, f"{milliseconds:.2f}", f"{none:.2f}", each)
    Console(width=170).print(table)


if __name__ == "__main__":
    sys.exit(main())
