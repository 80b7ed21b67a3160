"""Every model compiled once and verified at drawn shapes: python -m benchmarks.proof [NAME ...]

Models with open dimensions are compiled with all of them open, within the bounds below, and the
one library is verified on --examples inputs whose shapes and values hypothesis draws; those
without get a few examples. Beside the development models there are the other models of their
packages, and YOLOv8n of nudenet 3.4.2, whose licence keeps it out of tools/zoo: copy its 320n.onnx
to packages/nudenet-3.4.2/ of the zoo's folder. Writes results/proof.json after each model; --resume
leaves out what is in it. Make the models first with `python -m tools.zoo`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import latency, machine, models
from tilewright.options import CompileOptions

NAME = "proof"
_STATIC_EXAMPLES = 4
_SILERO, _OCR = "packages/silero-vad-6.2.3/silero_vad/data", "packages/rapidocr-onnxruntime-1.4.4"
_OCR += "/rapidocr_onnxruntime/models"
_TEXT = {"batch": (1, 3), "seq": (1, 128)}
_PADDLE = "p2o.DynamicDimension"
_CHUNK = {"batch": (1, 8), "sequence": 576}


@dataclass(frozen=True)
class Case:
    """Where a model is, the inputs that are fixed, and the bounds of what stays open."""

    file: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dims: Mapping[str, int | tuple[int, int]] = field(default_factory=dict)


def _zoo(name: str, **fields: Any) -> Case:
    return Case(f"models/{name}.onnx", **fields)


CASES: dict[str, Case] = {
    **{name: _zoo(name) for name in (*models.MODELS, *models.OUTSIDE) if "ppocr" not in name},
    "lstm_bi2_asr": _zoo("lstm_bi2_asr"),
    "resnet50_dynbatch": _zoo("resnet50_dynbatch", dims={"batch": (1, 48)}),
    "bert_base_dyn": _zoo("bert_base_dyn", dims=_TEXT),
    "trained_minilm_l6_dyn": _zoo("trained_minilm_l6_dyn", dims=_TEXT),
    "whisper_tiny_encoder_dyn": _zoo(
        "whisper_tiny_encoder_dyn", dims={"batch": (1, 3), "frames": (2, 600)}
    ),
    "trained_ppocrv4_det": _zoo(
        "trained_ppocrv4_det",
        dims={f"{_PADDLE}.0": (1, 2), f"{_PADDLE}.1": (32, 320), f"{_PADDLE}.2": (32, 320)},
    ),
    "trained_ppocr_cls": _zoo(
        "trained_ppocr_cls", dims={"x_d0": (1, 4), "x_d2": (33, 96), "x_d3": (33, 256)}
    ),
    "trained_silero_vad_16k_sequence": _zoo(
        "trained_silero_vad_16k_sequence", dims={"sequence_length": (1, 300)}
    ),
    # A chunk of 512 samples and 64 of the one before.
    "silero_vad": Case(
        f"{_SILERO}/silero_vad.onnx", shapes={"input": (1, 576), "state": (2, 1, 128)}
    ),
    "silero_vad_half": Case(f"{_SILERO}/silero_vad_half.onnx", dims=_CHUNK),
    "silero_vad_16k_op15": Case(f"{_SILERO}/silero_vad_16k_op15.onnx", dims=_CHUNK),
    "silero_vad_op18_ifless": Case(f"{_SILERO}/silero_vad_op18_ifless.onnx", dims=_CHUNK),
    "silero_vad_openvino_16k": Case(f"{_SILERO}/silero_vad_openvino_16k.onnx"),
    "ppocrv4_rec": Case(
        f"{_OCR}/ch_PP-OCRv4_rec_infer.onnx",
        dims={f"{_PADDLE}.0": (1, 3), "x_d2": 48, f"{_PADDLE}.1": (8, 400)},
    ),
    "nudenet_320n": Case(
        "packages/nudenet-3.4.2/320n.onnx",
        dims={"batch": (1, 2), "height": (32, 320), "width": (32, 320)},
    ),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the models named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(CASES)}")
    parser.add_argument("--examples", type=int, default=50, help="of models with open dimensions")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds for them, each model")
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    parser.add_argument("--resume", action="store_true", help="leave out what is done already")
    arguments = parser.parse_args(words)
    rows = latency.earlier(NAME) if arguments.resume else {}
    for name in arguments.names or CASES:
        if name in rows:
            continue
        rows[name] = prove(CASES[name], arguments)
        machine.write(NAME, {"examples": arguments.examples, "models": rows})
        print(f"{name}: {rows[name].get('error') or rows[name]['summary']}", file=sys.stderr)
    print_table(rows)
    right = sum(row.get("passed", False) for row in rows.values())
    print(f"{right} of {len(rows)} agree")
    return 0 if right == len(rows) else 1


def prove(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Compile one model and verify the library; or the error that stopped it."""
    model = arguments.zoo / case.file
    options = CompileOptions(dims=case.dims)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "model.so"
        begin = time.perf_counter()
        try:
            made = tilewright.compile(
                model, shapes=case.shapes, options=options, check=False, db=False
            )
            made.save(library)
            compiled = time.perf_counter() - begin
            bounds = tilewright.load(library).manifest["dims"]
            proof = tilewright.verify(
                library,
                model=model,
                examples=arguments.examples if bounds else _STATIC_EXAMPLES,
                budget=arguments.budget,
                failures=Path(folder),
            )
        except tilewright.TilewrightError as error:
            return {"error": str(error)}
        shapes = {tuple(sorted(example["dims"].items())) for example in proof.examples}
        return {
            "passed": proof.passed,
            "summary": str(proof),
            "compile_seconds": compiled,
            "verify_seconds": proof.seconds,
            "dims": bounds,
            "examples": len(proof.examples),
            "shapes": len(shapes),
            "used": proof.used,
            "outputs": proof.outputs,
            "refused": proof.refused,
            "notes": proof.notes,
        }


def print_table(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line for each model."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("model", "agrees", "examples", "shapes", "used", "compile s", "verify s"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for name, row in rows.items():
        if "error" in row:
            table.add_row(name, "NO", row["error"].splitlines()[0][:80])
            continue
        table.add_row(
            name,
            "yes" if row["passed"] else "NO",
            str(row["examples"]),
            str(row["shapes"]),
            "" if row["used"] is None else f"{row['used']:.0%}",
            f"{row['compile_seconds']:.1f}",
            f"{row['verify_seconds']:.1f}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    sys.exit(main())
