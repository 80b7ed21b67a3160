"""Golden outputs for a library that cannot run here: ONNX Runtime's, and how far one may be off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.compiler.artifact import save_arrays
from tilewright.compiler.child import Emit
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.compiler.sections import read_manifest
from tilewright.errors import ModelError
from tilewright.targets import host
from tilewright.verification.budget import output_budgets
from tilewright.verification.engines import engine_name
from tilewright.verification.inputs import (
    complete_inputs,
    round_sizes,
    sizes_to_try,
    usual_sizes,
)
from tilewright.verification.proof import Proof, sizes_text
from tilewright.verification.session import open_session
from tilewright.verification.tolerance import FACTOR, Tolerance


def golden_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run ONNX Runtime once; inputs and outputs go to `golden`. A Proof's dict.

    Its verdicts say what the error of the library may be, and that nothing was compared yet.
    """
    emit("start", step="golden outputs")
    manifest = read_manifest(Path(job["library"]))
    model = load(job["model"])
    dims = {k: v if isinstance(v, int) else tuple(v) for k, v in job["dims"].items()}
    shapes.apply(model, job["shapes"], dims)
    session = open_session(job["model"], job["threads"] or host.default_threads())
    normalise(model)
    refusal = ""
    dims = manifest["dims"]
    for sizes in [usual_sizes(manifest), *round_sizes(dims), *sizes_to_try(dims)]:
        inputs, found = complete_inputs(manifest, {}, sizes, job["seed"])
        try:
            outputs = session.run(None, dict(inputs))
        except Exception as error:
            refusal = refusal or f"{sizes_text(found)}: {' '.join(str(error).split())[:300]}"
            continue
        names = [row["name"] for row in manifest["outputs"]]
        golden = dict(zip(names, outputs, strict=True))
        save_arrays(Path(job["golden"]) / "golden_inputs.npz", inputs)
        save_arrays(Path(job["golden"]) / "golden_outputs.npz", golden)
        budgets = output_budgets(model, dict(found))
        judge = Tolerance(FACTOR).without_truth
        verdicts = [judge(n, array, array, budgets[n]).to_dict() for n, array in golden.items()]
        example = {"dims": found, "kind": "golden", "seed": job["seed"], "verdicts": verdicts}
        emit("done", step="golden outputs", seconds=None, note=sizes_text(found))
        return Proof(manifest["model"]["file"], engine_name(), (example,), None).to_dict()
    raise ModelError(
        f"ONNX Runtime refuses every input, first {refusal}",
        where=job["model"],
        hint="--shape and --dim say which sizes are right",
    )
