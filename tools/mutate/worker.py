"""Runs `tilewright compile` on one file, and says on standard output how it ended, as JSON.

It is the command line that users call, in this process, so that an error comes with its class.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

import click
import onnxruntime

import tilewright
from tilewright.cli import cli
from tilewright.errors import CheckFailed, TilewrightError
from tilewright.verification import check_job, engines


def outcome(words: list[str]) -> dict[str, Any]:
    """{} after success; the error as `TilewrightError.to_dict` has it; or {"traceback": ...}."""
    try:
        cli.main(["compile", *words], standalone_mode=False)
        return {}
    except CheckFailed as error:
        return {**error.to_dict(), "agrees_unoptimised": agrees_unoptimised(words[0])}
    except TilewrightError as error:
        # As the command line does: what cannot be printed is no clear error.
        click.echo(f"error: {error}", err=True)
        return error.to_dict()
    except Exception:
        return {"traceback": traceback.format_exc()}


def agrees_unoptimised(model: str) -> bool:
    """Whether the compiled model answers as ONNX Runtime does without its graph optimisations.

    They change what it answers to some models: a DequantizeLinear of weights along another axis
    than that of the outputs becomes a convolution with other scales.
    """
    built = tilewright.compile(model, check=False, db=False)
    engines.open_session = _unoptimised
    job = {"library": str(built.library), "model": model, "shapes": {}, "dims": {}, "seed": 0}
    job |= {"threads": None, "golden": None}
    return check_job.check_job(job, lambda *_, **__: None)["failure"] is None


def _unoptimised(path: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    print(json.dumps(outcome(sys.argv[1:])))
