"""What the child process does for the check at the end of a compilation: two inputs at most."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tilewright.compiler.artifact import save_arrays
from tilewright.compiler.child import Emit
from tilewright.errors import ModelError
from tilewright.verification.engines import Engines, Refused, engine_name
from tilewright.verification.inputs import complete_inputs, round_sizes, sizes_to_try
from tilewright.verification.proof import Proof, sizes_text, used_text

# How often more inputs are drawn where all were refused: some values rule a model's sizes out.
_TRIES = 3


def check_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Compare a library with ONNX Runtime on random inputs; a Proof's dict.

    Open dimensions are tried at two sizes. Where they differ by more than rounding explains, the
    model in double precision decides. The first example's arrays are kept in `golden`.
    """
    emit("start", step="verify")
    begin = time.monotonic()
    engines = Engines(job, exact=False)
    manifest = engines.module.manifest
    tried = sizes_to_try(manifest["dims"])
    examples: list[dict[str, Any]] = []
    failure, refusal = None, ""
    again = tried * _TRIES
    for number, sizes in enumerate([*tried, *round_sizes(manifest["dims"]), *again]):
        if failure is not None or len(examples) == len(tried):
            break
        seed = job["seed"] + number
        inputs, dims = complete_inputs(manifest, {}, sizes, seed)
        try:
            results = engines.run(inputs)
        except Refused as error:
            refusal = refusal or (f"{sizes_text(dims)}: {error}" if dims else str(error))
            continue
        if examples:
            emit("done", step="verify", seconds=None, note=sizes_text(examples[-1]["dims"]))
            emit("start", step="verify")
        verdicts = engines.compare(inputs, dims, results)
        if not all(verdict.passed for verdict in verdicts):
            # Which of the two errs, the model in double precision knows; it takes its time.
            verdicts = Engines(job, exact=True).compare(inputs, dims, results)
        shown = [verdict.to_dict() for verdict in verdicts]
        example = {"dims": dims, "kind": "normal", "seed": seed, "verdicts": shown}
        if not all(verdict.passed for verdict in verdicts):
            failure = {**example, "folder": None}
        elif job["golden"] and not examples:
            save_arrays(Path(job["golden"]) / "golden_inputs.npz", inputs)
            names = [spec.name for spec in engines.module.outputs]
            golden = dict(zip(names, results[1], strict=True))
            save_arrays(Path(job["golden"]) / "golden_outputs.npz", golden)
        if failure is None:
            examples.append(example)
    if failure is None and not examples:
        raise ModelError(
            f"nothing could be compared: every input was refused, first {refusal}",
            where=job["model"],
            hint="--shape and --dim say which sizes are right; --no-verify compiles without "
            "the check",
        )
    proof = Proof(
        engines.subject,
        engine_name(),
        tuple(examples),
        failure,
        seconds=time.monotonic() - begin,
    )
    note = used_text(proof) if proof.passed else "outside the tolerance"
    emit("done", step="verify", seconds=None, note=note)
    return proof.to_dict()
