"""A library that was just compiled, compared with ONNX Runtime here, or later elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tilewright.compiler import child
from tilewright.compiler.sections import read_manifest
from tilewright.errors import ArtifactError
from tilewright.verification.proof import Proof

Progress = Callable[[dict[str, Any]], None]


def check_library(
    library: Path,
    model: str | Path,
    seed: int,
    *,
    golden: Path | None = None,
    progress: Progress | None = None,
) -> Proof:
    """The check at the end of a compilation; arrays of the first example go to `golden`."""
    job = {**comparison(library, model, seed, None), "golden": str(golden) if golden else None}
    name = "tilewright.verification.check_job:check_job"
    return Proof.from_dict(child.call(name, job, progress, doing="verifying"))


def golden_outputs(
    library: Path, model: str | Path, seed: int, folder: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """What a check of `library` elsewhere is to find; arrays go to `folder`."""
    name = "tilewright.verification.golden_job:golden_job"
    job = {**comparison(library, model, seed, None), "golden": str(folder)}
    return child.call(name, job, progress, doing="running ONNX Runtime")


def comparison(library: Path, model: str | Path, seed: int, threads: int | None) -> dict[str, Any]:
    """What a process that compares `library` with `model` is told, as JSON values."""
    if not Path(model).is_file():
        raise ArtifactError("the reference model is missing", where=str(model))
    manifest = read_manifest(library)
    return {
        "library": str(library),
        "model": str(model),
        "shapes": manifest["shapes"],
        "dims": manifest["options"]["dims"],
        "seed": seed,
        "threads": threads,
    }
