"""What the child processes do for `tilewright verify --localize`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tilewright.compiler import runtime
from tilewright.compiler.artifact import save_arrays
from tilewright.compiler.child import Emit
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.graph import label
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise import normalise
from tilewright.verification.budget import tensor_budgets
from tilewright.verification.divergence import Divergence, Graph, first_divergence
from tilewright.verification.engines import as_tuple
from tilewright.verification.excerpt import Excerpts
from tilewright.verification.reference import DoubleReference, NoReference
from tilewright.verification.strategies import FLOAT_KINDS, Example
from tilewright.verification.tolerance import Tolerance
from tilewright.verification.trace import trace

# Times the error that rounding explains: what is inside a model is compared with numbers that no
# engine was measured on.
MARGIN = 4.0
# Values on which a mistake shows best: ones and zeros hide a swapped axis.
_TELLING = ("normal", "uniform")


class _Model:
    """The reference's side: the graph as in the file, every tensor, and how far each may be off."""

    def __init__(self, job: Mapping[str, Any], dims: Mapping[str, int]) -> None:
        self.model = load(job["model"])
        bounds = {k: v if isinstance(v, int) else tuple(v) for k, v in job["dims"].items()}
        shapes.apply(self.model, job["shapes"], bounds)
        proto = onnx.ModelProto()
        proto.CopyFrom(self.model.proto)
        inputs = tuple(value.name for value in self.model.inputs())
        self.graph = Graph(tuple(proto.graph.node), inputs)
        self.reference = DoubleReference(self.model)
        self.file = OnnxModel(
            self.model.path, self.model.sha256, proto, dict(self.model.weights), {}
        )
        normalise(self.model)
        known = tensor_budgets(self.model, dict(dims))
        most = max(known.values(), default=np.finfo(np.float32).eps)
        names = (*self.graph.order, *inputs)
        self.allowed = {name: MARGIN * known.get(name, most) for name in names}

    def normalised_differs(
        self, inputs: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray]
    ) -> bool:
        """Whether the normalised model computes something else than the file says."""
        try:
            values = DoubleReference(self.model)(inputs)
        except NoReference:
            return False
        names = [value.name for value in self.model.graph.output]
        return not all(
            np.allclose(values[name], truth[name], rtol=1e-9, atol=1e-12, equal_nan=True)
            for name in names
        )


def divergence_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Find the first wrong tensor of a failing example; write what later jobs need.

    `job["folder"]` gets `inputs.npz`, `truth.npz` (outputs in double precision), and for each
    excerpt that may still fail a folder of its own. "no_truth" says why nothing was found.
    """
    emit("start", step="localize")
    module = runtime.load(job["library"], job["threads"])
    failure, folder = job["failure"], Path(job["folder"])
    try:
        model = _Model(job, failure["dims"])
    except NoReference as error:
        return {"no_truth": str(error)}
    allowed = {
        verdict["name"]: verdict["allowed"] or model.allowed.get(verdict["name"], 0.0)
        for verdict in failure["verdicts"]
    }
    for inputs in _examples(job, module):
        try:
            truth = model.reference(inputs)
        except NoReference as error:
            return {"no_truth": str(error)}
        ran = trace(runtime.load(job["library"], job["threads"]), inputs)
        wrong = _wrong(ran.outputs, truth, allowed)
        if wrong:
            break
    else:
        return {"no_truth": "the failure is gone when the model runs again"}
    save_arrays(folder / "inputs.npz", dict(inputs))
    save_arrays(folder / "truth.npz", {name: np.asarray(truth[name]) for name in allowed})
    rows = module.manifest["kernels"]
    found = first_divergence(ran, model.graph, truth, rows, model.allowed, wrong)
    told = None if found is None else _told(found, rows)
    pieces = [] if found is None else _write_excerpts(found, model, truth, folder)
    emit("done", step="localize", seconds=None, note=told["tensor"] if told else "no tensor")
    return {
        "no_truth": None,
        "allowed": allowed,
        "wrong": wrong,
        "kernels": len(ran.calls),
        "divergence": told,
        "normalise": model.normalised_differs(inputs, truth),
        "excerpts": pieces,
    }


def _examples(job: Mapping[str, Any], module: runtime.Module) -> Iterator[Mapping[str, np.ndarray]]:
    """The failing example with values that tell more, then as it is."""
    failure = job["failure"]
    if failure["kind"] in FLOAT_KINDS:
        for kind in _TELLING:
            sizes = tuple(failure["dims"].items())
            yield Example(sizes, kind, failure["seed"]).arrays(module.manifest["inputs"])
    with np.load(job["inputs"]) as arrays:
        yield dict(arrays)


def _wrong(
    ours: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    allowed: Mapping[str, float],
) -> list[str]:
    """Which outputs are further from the truth than is allowed."""
    return [
        name
        for name, limit in allowed.items()
        if not Tolerance.within(
            name, ours[name], np.asarray(truth[name]).astype(ours[name].dtype), limit
        ).passed
    ]


def _told(found: Divergence, rows: list[dict[str, Any]]) -> dict[str, Any]:
    row = next(row for row in rows if row["name"] == found.call.kernel)
    return {
        "tensor": found.tensor,
        "error": found.error if np.isfinite(found.error) else None,
        "allowed": found.allowed,
        "nodes": [label(node) for node in found.group or found.nodes],
        "between": [label(node) for node in found.nodes if found.group and node not in found.group],
        "reads": list(found.cut),
        "call": found.call.number,
        **{key: row[key] for key in ("group", "fusion", "rule", "spec")},
        "kernel": found.call.kernel,
    }


def _write_excerpts(
    found: Divergence, model: _Model, truth: Mapping[str, np.ndarray], folder: Path
) -> list[dict[str, Any]]:
    excerpts = Excerpts(model.file, model.graph, truth)
    pieces = []
    cuts = excerpts.around(found.nodes, found.cut, found.tensor, found.group)
    for number, excerpt in enumerate(cuts):
        place = folder / f"excerpt{number}"
        place.mkdir()
        onnx.save(excerpt.proto, place / "minimal.onnx")
        save_arrays(place / "inputs.npz", dict(excerpt.inputs))
        save_arrays(place / "truth.npz", dict(excerpt.truth))
        limits = {name: model.allowed[name] for name in excerpt.truth}
        nodes = len(excerpt.proto.graph.node)
        pieces.append({"folder": str(place), "allowed": limits, "nodes": nodes})
    return pieces


def judge_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Whether `job["library"]` fails on the inputs in `job["folder"]`: which outputs are wrong."""
    module = runtime.load(job["library"], job["threads"])
    folder = Path(job["folder"])
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "truth.npz") as truth:
        names = [spec.name for spec in module.outputs]
        ours = dict(zip(names, as_tuple(module(dict(inputs))), strict=True))
        return {"wrong": _wrong(ours, truth, job["allowed"])}
