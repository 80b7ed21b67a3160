"""What the child process does for `tilewright verify BUNDLE`; needs no onnx and no onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler import runtime
from tilewright.compiler.child import Emit
from tilewright.verification.proof import Proof, used_text
from tilewright.verification.tolerance import Tolerance, Verdict


def bundle_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Compare a bundle's library with its golden outputs; a Proof's dict.

    Allowed is what was allowed when the golden outputs were made.
    """
    emit("start", step="verify")
    folder, check = Path(job["folder"]), job["check"]
    module = runtime.load(folder / "model.so", job["threads"])
    inputs = dict(np.load(folder / "golden_inputs.npz", allow_pickle=False))
    golden = dict(np.load(folder / "golden_outputs.npz", allow_pickle=False))
    outputs = module(inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    first = check["examples"][0]
    allowed = {verdict["name"]: verdict["allowed"] for verdict in first["verdicts"]}
    verdicts: list[Verdict] = [
        Tolerance.within(spec.name, ours, golden[spec.name], allowed[spec.name])
        for spec, ours in zip(module.outputs, outputs, strict=True)
    ]
    shown = [verdict.to_dict() for verdict in verdicts]
    example = {"dims": first["dims"], "kind": "golden", "seed": first["seed"], "verdicts": shown}
    passed = all(verdict.passed for verdict in verdicts)
    proof = Proof(
        folder.name,
        f"golden outputs of {check['reference']}",
        (example,) if passed else (),
        None if passed else {**example, "folder": None},
    )
    note = used_text(proof) if passed else "outside the tolerance"
    emit("done", step="verify", seconds=None, note=note)
    return proof.to_dict()
