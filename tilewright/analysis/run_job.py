"""What the child process does for `tilewright run`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler import runtime
from tilewright.compiler.artifact import save_arrays
from tilewright.compiler.child import Emit
from tilewright.errors import OptionError
from tilewright.verification.inputs import complete_inputs, read_inputs, sizes_to_try


def run_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run a library once; a summary of each output, and the time of the call."""
    emit("start", step="load")
    start = time.perf_counter()
    module = runtime.load(job["library"], job["threads"])
    emit("done", step="load", seconds=time.perf_counter() - start, note=str(module))
    given, _ = read_inputs(job["inputs"], module.manifest["inputs"])
    names = ", ".join(module.manifest["dims"])
    if unknown := [name for name in job["dims"] if name not in module.manifest["dims"]]:
        raise OptionError(
            f"--dim names a dimension the model does not have: {unknown[0]!r}",
            expected=f"one of: {names}" if names else "no --dim: the library is static",
        )
    sizes = {**sizes_to_try(module.manifest["dims"])[0], **job["dims"]}
    inputs, _ = complete_inputs(module.manifest, given, sizes, job["seed"])
    emit("start", step="run")
    start = time.perf_counter()
    outputs = module(inputs)
    seconds = time.perf_counter() - start
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    named = {spec.name: array for spec, array in zip(module.outputs, outputs, strict=True)}
    if job["output"]:
        save_arrays(Path(job["output"]), named)
    emit("done", step="run", seconds=seconds, note=f"{module.threads} threads")
    rows = [_summary(name, array) for name, array in named.items()]
    return {"outputs": rows, "seconds": seconds, "threads": module.threads}


def _summary(name: str, array: np.ndarray) -> dict[str, Any]:
    numbers = array.astype(np.float64)[np.isfinite(array)] if array.size else np.empty(0)
    found = {
        f: float(getattr(numbers, f)()) if numbers.size else None for f in ("min", "mean", "max")
    }
    return {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), **found}
