"""What the child process does for `tilewright preflight`: will it compile, and what will it take?

The stages that may refuse a model run as they do for `compile`, so that the answer is the one that
a compilation would give. Where one refuses, the conversion is gone through once more for all that
is refused, and it is tried whether fixed sizes would help.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import onnx

from tilewright.analysis.cost import node_cost
from tilewright.analysis.dry_run import DryRun, dry_run, refusal, timed
from tilewright.analysis.findings import Finding, by_converters, without_converter
from tilewright.analysis.inspect_job import interface_rows
from tilewright.analysis.operators import made_by, operators_of
from tilewright.analysis.sizes import representatives
from tilewright.compiler.child import Emit
from tilewright.compiler.compile_job import work_of
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise import STEPS
from tilewright.compiler.importer.normalise.fold import infer_dtypes, infer_shapes
from tilewright.compiler.pipeline import Work
from tilewright.errors import TilewrightError, UnsupportedModel
from tilewright.targets.rules.register_tile import lanes_of

# Where more dimensions are open, they are fixed together and not one by one.
MOST_TRIED = 4


def preflight_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Whether the model of `job` will compile, what stands in the way, and what it will take.

    JSON values (docs/preflight.md). Raises ModelError for a file that is not a valid model.
    """
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        work = work_of({**job, "folder": folder})
        facts = {"path": str(work.path), "target": work.target.name}
        try:
            work.model = timed(emit, "load", lambda: load(work.path))
        except UnsupportedModel as error:
            return facts | _verdict([Finding.of("load", error)])
        loaded = _copied(work.model)
        work.bounds = shapes.apply(work.model, work.shapes, work.options.dims)
        operators = operators_of(work.model)
        earlier = timed(emit, "normalise", lambda: _normalise(work.model))
        facts |= _facts(work.model) | {"estimates": _operations(work)}
        made, missing = made_by(work.model), without_converter(work.model, earlier)
        run, found, unchecked = _refusals(work, loaded, earlier, list(missing.values()), emit)
        refused = {node for finding in found for node in finding.nodes}
        fixed = _sizes_that_help(work, loaded, emit) if found and work.bounds else {}
        if not found:
            facts |= _interface(run)
        for row in facts["estimates"]:
            row["activation_bytes"] = run.memory.bytes_at(row["sizes"]) if run.memory else None
        return facts | {
            "operators": [
                operator.row(made, missing, refused, work.model.opset(operator.domain))
                for operator in operators
            ],
            "dimensions": _dimensions(work, bool(found), fixed),
            "computed_shapes": run.computed,
            "kernels": None if found else len(run.kernels),
            "groups": None if found else run.groups,
            **_verdict(found, [node for node in unchecked if node not in refused]),
        }


def _facts(model: OnnxModel) -> dict[str, Any]:
    """What a normalised model is."""
    weights = model.constants().values()
    return {
        "sha256": model.sha256,
        "opset": model.opset(),
        **interface_rows(model, infer_shapes(model)),
        "parameters": sum(array.size for array in weights),
        "weight_bytes": sum(array.nbytes for array in weights),
        "external": [{"file": f, "bytes": n} for f, n in sorted(model.external.items())],
    }


def _interface(run: DryRun) -> dict[str, Any]:
    """Inputs and outputs as the library will have them."""
    kept = ("name", "dtype", "shape")
    sides = ("inputs", "outputs")
    return {side: [{k: row[k] for k in kept} for row in run.interface[side]] for side in sides}


def _copied(model: OnnxModel) -> OnnxModel:
    """The model once more; the weights are shared."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    return replace(model, proto=proto, weights=dict(model.weights))


def _normalise(model: OnnxModel) -> Finding | None:
    """Normalise `model` as far as possible; the refusal, if there is one."""
    steps = [step for _name, step, _why in STEPS]
    for place, step in enumerate(steps):
        try:
            step(model)
        except Exception as error:
            found = refusal("normalise", error)
            # What the others would remove is not to be blamed.
            for rest in steps[place + 1 :]:
                with suppress(TilewrightError):
                    rest(model)
            return found
    return None


def _operations(work: Work) -> list[dict[str, Any]]:
    """Floating-point operations of the model, at the least and at the greatest sizes."""
    dtypes = infer_dtypes(work.model)
    sizes = representatives(work.bounds)
    rows = []
    for at in [sizes[0], *([sizes[-1]] if len(sizes) > 1 else [])]:
        known = infer_shapes(work.model, at)
        costs = (node_cost(node, known, dtypes, dict(at)) for node in work.model.graph.node)
        rows.append({"sizes": dict(at), "flops": sum(cost.flops for cost in costs)})
    return rows


def _refusals(
    work: Work, loaded: OnnxModel, earlier: Finding | None, missing: list[Finding], emit: Emit
) -> tuple[DryRun, list[Finding], list[str]]:
    """How far a compilation comes, all that is refused, and nodes that nobody could look at."""
    found = missing
    if earlier and earlier.what not in [finding.what for finding in missing]:
        found = [earlier, *missing]
    run = DryRun()
    if not found:
        run = _dry_run(work, loaded, emit)
        if run.failure is None:
            return run, [], []
        if run.failure.stage != "import":
            return run, [run.failure], []
    try:
        more, unchecked = timed(
            emit, "survey", lambda: by_converters(work.model, lanes_of(work.target))
        )
    except UnsupportedModel as error:
        # It is about the model as a whole.
        return run, [*found, Finding.of("import", error)], []
    # What ended the conversion is among them, unless it is about the results.
    return run, [*found, *(more or filter(None, [run.failure]))], unchecked


def _sizes_that_help(work: Work, loaded: OnnxModel, emit: Emit) -> dict[str, int]:
    """Open dimensions that the model compiles with when they have these sizes; few, if possible.

    None help, or none is known to: {}.
    """
    sizes = representatives(work.bounds)
    needed = dict(sizes[len(sizes) // 2])
    if not timed(emit, "fixed sizes", lambda: _compiles(work, loaded, needed)):
        return {}
    for name in list(needed) if 1 < len(needed) <= MOST_TRIED else []:
        fewer = {other: size for other, size in needed.items() if other != name}
        if fewer and _compiles(work, loaded, fewer):
            needed = fewer
    return needed


def _compiles(work: Work, loaded: OnnxModel, sizes: Mapping[str, int]) -> bool:
    """Whether the model would compile with dimensions of these sizes."""
    try:
        attempt, earlier = _afresh(work, loaded, sizes)
        return earlier is None and _dry_run(attempt, loaded, _silent).failure is None
    except TilewrightError:
        return False  # The model contradicts these sizes.


def _silent(*_args: object, **_fields: object) -> None:
    """Tell nobody."""


def _dry_run(work: Work, loaded: OnnxModel, emit: Emit) -> DryRun:
    """A dry run, the whole of it where the short one fails after the import.

    For some groups that a rule of ours takes, TVM writes no kernel.
    """
    run = dry_run(work, emit)
    if run.failure is None or run.failure.stage == "import":
        return run
    return dry_run(_afresh(work, loaded, {})[0], emit, whole=True)


def _afresh(work: Work, loaded: OnnxModel, sizes: Mapping[str, int]) -> tuple[Work, Finding | None]:
    """The work as it was before the import, with these sizes; and what normalising refuses."""
    options = replace(work.options, dims={**work.options.dims, **sizes})
    again = Work(work.path, work.target, options, work.shapes, work.folder, work.fusion_list)
    again.model = _copied(loaded)
    again.bounds = shapes.apply(again.model, again.shapes, options.dims)
    return again, _normalise(again.model)


def _dimensions(work: Work, stopped: bool, fixed: Mapping[str, int]) -> list[dict[str, Any]]:
    """The open dimensions, and what each needs for the model to compile."""
    rows = []
    for name, (low, high) in work.bounds.items():
        bounded = high < shapes.DEFAULT_BOUNDS[1]
        if name in fixed:
            needs = f"a fixed size: it compiles with --dim {name}={fixed[name]}"
        elif stopped and not fixed:
            needs = "not known: the model does not compile"
        elif bounded:
            needs = "nothing"
        else:
            needs = f"nothing; with bounds, --dim {name}=LOW..HIGH, memory is planned ahead"
        rows.append(
            {
                "name": name,
                "low": low,
                "high": high if bounded else None,
                "inputs": _users(work.model, name),
                "fixed": fixed.get(name),
                "needs": needs,
            }
        )
    return rows


def _users(model: OnnxModel, name: str) -> list[str]:
    """The inputs that have a dimension of this name."""
    return [
        value.name
        for value in model.inputs()
        if name in [dim.dim_param for dim in value.type.tensor_type.shape.dim]
    ]


def _verdict(found: list[Finding], unchecked: list[str] | None = None) -> dict[str, Any]:
    return {
        "compiles": not found,
        "findings": [finding.to_dict() for finding in found],
        "unchecked": unchecked or [],
    }
