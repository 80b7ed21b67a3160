"""What the child process does for `tilewright.compile`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

from tilewright.compiler import pipeline
from tilewright.compiler.child import Emit
from tilewright.compiler.kernel_cache import KernelCache, default_folder
from tilewright.options import CompileOptions
from tilewright.passes.fusion import Fusion
from tilewright.passes.fusions import DEFAULT_FUSIONS
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import Choice


def compile_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run the pipeline for `job`; the library lies in `job["folder"]` afterwards."""
    work = work_of(job)
    work.cache = KernelCache(default_folder()) if job["cache"] else None
    work.choices = {
        key: Choice(found["rule"], found["knobs"]) for key, found in job["choices"].items()
    }
    if job["faults"]:
        work.faults = pickle.loads(Path(job["faults"]).read_bytes())
    dump = Path(job["dump"]) if job["dump"] else None
    pipeline.run(
        work,
        on_start=lambda stage: emit("start", step=stage.name),
        on_done=lambda stage, seconds, note: emit(
            "done", step=stage.name, seconds=seconds, note=note, why=stage.why
        ),
        dump=dump,
    )
    return {"library": str(work.library), "manifest": work.manifest}


def work_of(job: dict[str, Any]) -> pipeline.Work:
    """The Work that a job (JSON values) describes."""
    # Long chains of operators recurse deeply in the importer and in TVM's Python visitors.
    sys.setrecursionlimit(20_000)
    return pipeline.Work(
        path=Path(job["path"]),
        target=Target.from_dict(job["target"]),
        options=CompileOptions.from_dict(job["options"]),
        shapes=job["shapes"],
        folder=Path(job["folder"]),
        fusion_list=_fusions(job["fusions"]),
    )


def _fusions(path: str | None) -> tuple[Fusion, ...]:
    """The user's own list, pickled by value by the parent process; or the default."""
    return DEFAULT_FUSIONS if path is None else pickle.loads(Path(path).read_bytes())
