"""What a tuning session makes of the models: latency before and after, beside ONNX Runtime's.

    python -m benchmarks.tuning [--models NAME ...] [--threads 2] [--budget 20] [--seconds 10]

Each model is tuned from an empty file of records for --budget minutes, for the first number of
--threads. Then the tuned library, the untuned one and ONNX Runtime take turns in one process
(benchmarks/turns.py). Writes results/tuning.json after each model.
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

NAME = "tuning"
TUNED, UNTUNED, ORT = "tuned", "untuned", "onnxruntime"
# The models of the main job that sessions are measured on.
CHOSEN = (
    *("resnet50", "mobilenetv2_100", "efficientnet_b0", "deit_tiny_patch16_224", "bert_base_s128"),
    *("trained_whisper_tiny_en_encoder", "trained_minilm_l6_s128", "unet_convtranspose_256"),
)


def main(words: Sequence[str] | None = None) -> int:
    """Tune and measure the models named on the command line."""
    parser = latency.parser(__doc__)
    parser.add_argument("--budget", type=float, default=20.0, help="minutes of a session")
    parser.set_defaults(output=NAME, models=list(CHOSEN), threads=[2], seconds=10.0)
    arguments = parser.parse_args(words)
    rows = latency.earlier(arguments.output) if arguments.resume else {}
    for name in arguments.models:
        if name in rows:
            continue
        model = arguments.zoo / "models" / f"{name}.onnx"
        rows[name] = measure(
            name, model, arguments.threads[0], arguments.budget * 60, arguments.seconds
        )
        machine.write(
            arguments.output,
            {"budget_minutes": arguments.budget, "models": rows, "summary": summary(rows)},
        )
        print(f"{name}: {rows[name].get('error') or 'done'}", file=sys.stderr)
    print_table(rows)
    print(f"raw figures in {machine.RESULTS / arguments.output}.json")
    return 1 if any("error" in row for row in rows.values()) else 0


def measure(name: str, model: Path, threads: int, budget: float, seconds: float) -> dict[str, Any]:
    """The session of one model and the latencies after it, or the error that stopped it."""
    shapes = MODELS.get(name, {})
    options = tilewright.CompileOptions(threads=threads)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        feed, db = folder / "feed.npz", folder / "records.jsonl"
        try:
            session = tilewright.tune(
                model, shapes=shapes, options=options, budget=budget, db=db, threads=threads
            )
            engines = []
            for engine, records in ((TUNED, db), (UNTUNED, False)):
                library = folder / f"{engine}.so"
                built = tilewright.compile(
                    model, shapes=shapes, options=options, check=False, db=records
                )
                built.save(library)
                engines.append(Engine(engine, "tilewright", str(library)))
            latency.write_inputs(name, library, feed)
            engines.append(Engine(ORT, ORT, str(model)))
            run = turns.measure(engines, feed, threads, seconds)
        except tilewright.TilewrightError as error:
            return {"runs": {}, "error": str(error)}
    # The file of records is gone with its folder.
    del session["db"]
    return {"session": session, "runs": {str(threads): run}}


def summary(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Geometric means of the other engines' times over the tuned library's, and the least ones."""
    found = {}
    for other in (UNTUNED, ORT):
        ratios = [
            run["ratios"][other]["median"]
            for row in rows.values()
            for run in row["runs"].values()
            if other in run["ratios"]
        ]
        if ratios:
            found[other] = turns.geometric_mean(ratios)
            found[f"{other}_least"] = min(ratios)
    return found


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each model, then the means."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("model", "trials", "tasks won", "tuned ms", "untuned/tuned", "ORT/tuned"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in rows.items():
        for run in row["runs"].values():
            session = row["session"]
            table.add_row(
                name,
                str(session["trials"]),
                f"{len(session['won'])} of {len(session['tasks'])}",
                f"{run['engines'][TUNED]['median'] * 1e3:.2f}",
                *(_interval(run["ratios"].get(other)) for other in (UNTUNED, ORT)),
            )
    Console(width=140).print(table)
    for name, value in summary(rows).items():
        print(f"{name}/tuned: {value:.3f}")


def _interval(ratio: dict[str, float] | None) -> str:
    return (
        ""
        if ratio is None
        else f"{ratio['median']:.3f} ({ratio['low']:.2f} .. {ratio['high']:.2f})"
    )


if __name__ == "__main__":
    sys.exit(main())
