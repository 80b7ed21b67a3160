"""Models with open sizes and recurrent ones: one build for all sizes beside one for each size.

    python -m benchmarks.open_sizes [--models NAME ...] [--threads 1 2] [--seconds 20] [--resume]

Each model is compiled twice, with its sizes open and with them given, and both take turns with ONNX
Runtime at those sizes (benchmarks/turns.py). Writes results/open_sizes.json after each model;
--resume leaves out what is in it. Make the models first with `python -m tools.zoo`.
"""

from __future__ import annotations

import argparse
import os
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
from benchmarks.turns import Engine

NAME = "open_sizes"
OPEN, STATIC, PEER = "open sizes", "static", "onnxruntime"
# Model and the sizes of its static build; without any, the model has none that are open.
MODELS: dict[str, dict[str, tuple[int, ...]]] = {
    "resnet50_dynbatch": {"input": (1, 3, 224, 224)},
    "bert_base_dyn": dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 128)),
    "trained_minilm_l6_dyn": dict.fromkeys(("input_ids", "attention_mask"), (1, 128)),
    "whisper_tiny_encoder_dyn": {"input_features": (1, 80, 3000)},
    "trained_ppocrv4_det": {"x": (1, 3, 640, 640)},
    "trained_ppocr_cls": {"x": (1, 3, 48, 192)},
    "trained_silero_vad_16k_sequence": {"input": (100, 576)},
    "lstm_bi2_asr": {},
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the models named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=20.0, help="per model and threads")
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    parser.add_argument("--resume", action="store_true", help="leave out what is measured already")
    arguments = parser.parse_args(words)
    rows = latency.earlier(NAME) if arguments.resume else {}
    for name in arguments.models:
        if name in rows:
            continue
        model = arguments.zoo / "models" / f"{name}.onnx"
        rows[name] = measure(name, model, arguments.threads, arguments.seconds)
        machine.write(NAME, {"seconds": arguments.seconds, "models": rows})
        print(f"{name}: {rows[name].get('error') or 'done'}", file=sys.stderr)
    print_table(rows)
    return 0 if all("error" not in row for row in rows.values()) else 1


def measure(name: str, model: Path, threads: Sequence[int], seconds: float) -> dict[str, Any]:
    """Both builds and ONNX Runtime for each number of threads, or the error that stopped it."""
    shapes = MODELS[name]
    with tempfile.TemporaryDirectory() as folder:
        feed, built = Path(folder) / "feed.npz", {}
        try:
            for kind, given in {STATIC: shapes, OPEN: {}}.items():
                if kind == OPEN and not shapes:
                    continue
                built[kind] = Path(folder) / f"{kind.replace(' ', '_')}.so"
                artifact = tilewright.compile(model, shapes=given, check=False, db=False)
                artifact.save(built[kind])
            latency.write_inputs(name, built[STATIC], feed)
            engines = [Engine(kind, latency.OURS, str(path)) for kind, path in built.items()]
            # Open sizes first: the ratios are to them.
            engines = [*reversed(engines), Engine(PEER, PEER, str(model))]
            runs = {str(n): turns.measure(engines, feed, n, seconds) for n in threads}
        except tilewright.TilewrightError as error:
            return {"runs": {}, "error": str(error)}
    return {"shapes": shapes, "runs": runs}


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each model and number of threads."""
    table = Table(box=box.SIMPLE_HEAD)
    titles = ("model", "threads", "ms", "static ms", "static/ours", "95%", "ORT ms", "ORT/ours")
    for title in (*titles, "95%"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in rows.items():
        if "error" in row:
            table.add_row(name, "", row["error"][:80])
        for number, run in row["runs"].items():
            ours = next(iter(run["engines"].values()))
            cells = [name, number, f"{ours['median'] * 1e3:.3f}"]
            for other in (STATIC, PEER):
                ratio = run["ratios"].get(other)
                if ratio is None:
                    cells += [""] * 3
                    continue
                cells.append(f"{run['engines'][other]['median'] * 1e3:.3f}")
                cells += [f"{ratio['median']:.2f}", f"{ratio['low']:.2f} .. {ratio['high']:.2f}"]
            table.add_row(*cells)
    Console(width=170).print(table)


if __name__ == "__main__":
    sys.exit(main())
