"""The process that compiles graphs and compares them, one after the other; it may crash or hang.

It reads a job a line from standard input and answers with a line each on the descriptor that its
argument names. Everything that libraries print goes to its standard output and error.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler import pipeline
from tilewright.compiler.artifact import save_arrays
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.errors import CompileError, ModelError, TilewrightError, UnsupportedModel
from tilewright.options import CompileOptions
from tilewright.targets import resolve
from tilewright.verification.engines import Engines, Refused, open_session
from tilewright.verification.inputs import sizes_to_try
from tilewright.verification.proof import failure_text, sizes_text
from tilewright.verification.strategies import Example

# Kinds of values: one is measured on each before any output is judged.
_KINDS = ("normal", "uniform", "sparse")
_MORE = 12
_ODD = (3, 13, 7, 5)
# What Python says of a mistake in a program; nobody mends a model by it.
_SAYS_NOTHING = re.compile(r"has no attribute|not subscriptable|unsupported operand|positional arg")


def attempt(job: dict[str, Any]) -> dict[str, Any]:
    """Compile and compare one model; its `status` and the `cause` of a bad one."""
    folder, path = Path(job["folder"]), Path(job["model"])
    try:
        open_session(str(path), 1)
    except ModelError as error:
        return {"status": "reference refuses", "cause": error.what}
    begin = time.monotonic()
    work = pipeline.Work(
        path=path,
        target=resolve("native"),
        options=CompileOptions(**job["options"]),
        shapes={},
        folder=folder,
        cache=KernelCache(Path(job["cache"])),
    )
    step = "load"
    try:
        for stage in pipeline.chosen_stages(work.options):
            step = stage.name
            stage.run(work)
    except UnsupportedModel as error:
        if _SAYS_NOTHING.search(error.what):
            return {"status": "UNCLEAR", "cause": error.what}
        return {"status": "refused", "cause": error.what}
    except CompileError as error:
        return {"status": "CRASH", "cause": f"step {step}: {error.what}"}
    except TilewrightError as error:
        return {"status": "UNCLEAR", "cause": f"step {step}: {error}"}
    except Exception:
        return {"status": "CRASH", "cause": f"step {step}: {_last_lines()}"}
    compiled = time.monotonic() - begin
    return {**_compare(work, folder, job["seed"]), "compile_s": compiled}


def _compare(work: pipeline.Work, folder: Path, seed: int) -> dict[str, Any]:
    """The verdict at two or three shapes."""
    job = {"library": str(work.library), "model": str(work.path), "shapes": {}, "dims": {}}
    engines = Engines({**job, "threads": 2}, exact=True)
    manifest = engines.module.manifest
    sizes = sizes_to_try(manifest["dims"])
    if manifest["dims"]:
        sizes.append({n: _ODD[at % len(_ODD)] for at, n in enumerate(manifest["dims"])})
    for kind in _KINDS:
        engines.calibrate(_arrays(manifest, sizes[-1], kind, seed), sizes[-1])
    refused = None
    for dims, kind in zip([*sizes, sizes[0]], ("normal", "sparse", "uniform"), strict=False):
        inputs = _arrays(manifest, dims, kind, seed + 1)
        try:
            verdicts = engines.compare(inputs, dims, engines.run(inputs))
        except Refused as error:
            refused = f"{sizes_text(dims)}: {error}"
            continue
        if not all(verdict.passed for verdict in verdicts):
            # ONNX Runtime's error on a few examples may be small by luck: more of them tell.
            for more in range(2, 2 + _MORE):
                for known in _KINDS:
                    engines.calibrate(_arrays(manifest, dims, known, seed + more), dims)
            verdicts = engines.compare(inputs, dims, engines.run(inputs))
        if not all(verdict.passed for verdict in verdicts):
            save_arrays(folder / "inputs.npz", inputs)
            shown = failure_text({"verdicts": [verdict.to_dict() for verdict in verdicts]})
            return {"status": "MISMATCH", "cause": f"{sizes_text(dims)} {kind}: {shown}"}
    if refused:
        return {"status": "reference refuses", "cause": refused}
    return {"status": "agree", "no_truth": engines.no_truth}


def _arrays(
    manifest: dict[str, Any], dims: dict[str, int], kind: str, seed: int
) -> dict[str, np.ndarray]:
    return Example(tuple(dims.items()), kind, seed).arrays(manifest["inputs"])


def _last_lines() -> str:
    lines = traceback.format_exc().strip().splitlines()
    places = [line.strip() for line in lines if line.lstrip().startswith("File ")]
    ours = [place for place in places if "tilewright" in place or "tvm" in place]
    return " | ".join([*ours[-3:], " ".join(lines[-1].split())[:300]])


def main() -> None:
    """Answer jobs until there are no more."""
    sys.setrecursionlimit(20_000)
    with os.fdopen(int(sys.argv[1]), "w", buffering=1) as answers:
        for line in sys.stdin:
            begin = time.monotonic()
            try:
                answer = attempt(json.loads(line))
            except Exception:
                answer = {"status": "CRASH", "cause": f"comparing: {_last_lines()}"}
            answers.write(json.dumps({**answer, "seconds": time.monotonic() - begin}) + "\n")


if __name__ == "__main__":
    main()
