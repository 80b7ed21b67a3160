"""What the child process does for `tilewright.analyze`: everything but code generation."""

from __future__ import annotations

import tempfile
from typing import Any

from tilewright.analysis.fusion_report import collect, report
from tilewright.compiler import pipeline
from tilewright.compiler.child import Emit
from tilewright.compiler.compile_job import work_of

LAST_STAGE = "weights"


def analyze_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run the stages up to `weights` and report what fusion did."""
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        work = work_of({**job, "folder": folder})
        facts = None
        values: list[str] = []  # the variables there were before any was swallowed by a group
        for stage in pipeline.chosen_stages(work.options):
            emit("start", step=stage.name)
            if stage.name in ("fuse", "legalize") and not values:
                values = [
                    binding.var.name
                    for block in work.mod["main"].body.blocks
                    for binding in block.bindings
                ]
            stage.run(work)
            if stage.name == "normalise":
                facts = collect(work.model.graph, work)
            if stage.name == LAST_STAGE:
                break
        return report(facts, work, values)
