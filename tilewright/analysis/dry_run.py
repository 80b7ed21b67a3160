"""A compilation without the code: every stage that may refuse a model, from the import on.

Groups become kernels as TVM would write them, which takes a fraction of the time that our rules do;
memory and bytecode are planned with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm import relax, tirx

from tilewright.analysis.findings import Finding
from tilewright.analysis.memory import MemoryPlan, memory_plan
from tilewright.compiler import bytecode, pipeline
from tilewright.compiler.child import Emit
from tilewright.compiler.pipeline import Work
from tilewright.errors import TilewrightError, UnsupportedModel

# They write loop nests for what the other stages have accepted, and take most of the time.
LEFT_OUT = ("lower", "schedule")
_BEFORE, _CODE = ("load", "normalise"), ("codegen", "link")


@dataclass
class DryRun:
    """How far a compilation came: what stopped it, or what it would need.

    `computed` are the nodes from which on a size is known only when the model runs, with the shape
    of their results; `kernels` the calls of kernels in a run, `groups` those that fusions of ours
    have made.
    """

    failure: Finding | None = None
    computed: list[dict[str, str]] = field(default_factory=list)
    memory: MemoryPlan | None = None
    kernels: list[str] = field(default_factory=list)
    groups: int = 0
    interface: dict[str, Any] = field(default_factory=dict)


def dry_run(work: Work, emit: Emit, *, whole: bool = False) -> DryRun:
    """Go through the stages of `work`, whose model is normalised; the work is spent afterwards.

    `whole`: with the stages of LEFT_OUT. Raises no error of the compiler's: each becomes a finding.
    """
    found = DryRun()
    skipped = (*_BEFORE, *_CODE, *(() if whole else LEFT_OUT))
    for stage in pipeline.chosen_stages(work.options):
        if stage.name in skipped:
            continue
        try:
            if stage.name == "plan":
                found.memory = memory_plan(work)
            timed(emit, stage.name, lambda stage=stage: stage.run(work), stage.why)
        except Exception as error:
            found.failure = refusal(stage.name, error)
            return found
        if stage.name == "import":
            found.computed = _computed_shapes(work)
    found.kernels, found.groups = work.kernels, len(work.fusions.groups)
    found.interface = work.interface
    try:
        if work.tables is None:
            bytecode.bytecode(work)
    except Exception as error:
        found.failure = refusal("codegen", error)
    return found


def refusal(stage: str, error: Exception) -> Finding:
    """An exception as a finding, unless it is one that says the check itself cannot go on."""
    if isinstance(error, UnsupportedModel):
        return Finding.of(stage, error)
    if isinstance(error, TilewrightError | OSError | MemoryError):
        raise error
    return Finding.fault(stage, error)


def timed(emit: Emit, step: str, action: Callable[[], Any], why: str = "") -> Any:
    """The result of `action`, with events before and after it; a text becomes the note of one."""
    emit("start", step=step)
    start = time.perf_counter()
    result = action()
    note = result if isinstance(result, str) else ""
    emit("done", step=step, seconds=time.perf_counter() - start, note=note, why=why)
    return result


def _computed_shapes(work: Work) -> list[dict[str, str]]:
    """The first nodes with each size that does not follow from those of the inputs."""
    main = work.mod["main"]
    known = {var for param in main.params for var in _sizes(param.ty)}
    rows = []
    for binding in (binding for block in main.body.blocks for binding in block.bindings):
        kind = binding.var.ty
        if not isinstance(kind, relax.TensorType):
            continue
        unknown = kind.shape is None or any(var not in known for var in _sizes(kind))
        known |= _sizes(kind)
        node = ", ".join(work.origins.get(binding.var.name, ()))
        if unknown and node and node not in [row["node"] for row in rows]:
            shape = "not known" if kind.shape is None else str([*kind.shape])
            rows.append({"node": node, "shape": shape})
    return rows


def _sizes(kind: relax.TensorType) -> set[tirx.Var]:
    """The variables in a shape."""
    if not isinstance(getattr(kind, "shape", None), relax.ShapeExpr):
        return set()
    return {var for size in kind.shape.values for var in tirx.analysis.undefined_vars(size)}
