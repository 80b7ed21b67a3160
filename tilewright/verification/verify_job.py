"""What the child process does for `tilewright.verify`: both engines on the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler import runtime
from tilewright.compiler.artifact import save_arrays
from tilewright.compiler.child import Emit
from tilewright.errors import ModelError, OptionError
from tilewright.verification.compare import compare
from tilewright.verification.inputs import (
    bind_dimensions,
    random_inputs,
    read_inputs,
    sizes_to_try,
)
from tilewright.verification.report import VerifyReport


def verify_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Compare a library with ONNX Runtime on given or random inputs; a VerifyReport's dict."""
    emit("start", step="verify")
    module = runtime.load(job["library"], job["threads"])
    model = _load_reference(job, module)
    session = open_session(job["model"], module.threads)
    given, _ = read_inputs(job["inputs"], module.manifest["inputs"])
    runs = []
    for number, sizes in enumerate(sizes_to_try(module.manifest["dims"])):
        if number:
            emit("done", step="verify", seconds=None, note=_sizes_text(runs[-1]["dims"]))
            emit("start", step="verify")
        inputs, dims = complete_inputs(module.manifest, given, sizes, job["seed"] + number)
        # Ours first: it says what is wrong with an input that does not fit.
        outputs = _as_tuple(module(inputs))
        expected = session.run(None, inputs)
        budgets = _budgets(model, dims)
        names = [spec.name for spec in module.outputs]
        checks = [
            compare(name, ours, reference, budgets[name].relative, budgets[name].floor).to_dict()
            for name, ours, reference in zip(names, outputs, expected, strict=True)
        ]
        runs.append({"dims": dims, "outputs": checks})
        if job["golden"] and number == 0:
            save_arrays(Path(job["golden"]) / "golden_inputs.npz", inputs)
            golden = dict(zip(names, expected, strict=True))
            save_arrays(Path(job["golden"]) / "golden_outputs.npz", golden)
        if given:
            break  # Given inputs fix the sizes: there is nothing else to try.
    name = Path(job["library"]).name
    if model.sha256 != module.manifest["model"]["sha256"]:
        name += f" (compiled from another file than {Path(job['model']).name})"
    else:
        name = module.manifest["model"]["file"]
    report = VerifyReport(name, _engine(), tuple(runs))
    emit("done", step="verify", seconds=None, note=_note(report))
    return report.to_dict()


def verify_bundle_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Compare a bundle's library with its golden outputs; needs no onnx and no onnxruntime."""
    emit("start", step="verify")
    folder = Path(job["folder"])
    module = runtime.load(folder / "model.so", job["threads"])
    inputs = dict(np.load(folder / "golden_inputs.npz", allow_pickle=False))
    golden = dict(np.load(folder / "golden_outputs.npz", allow_pickle=False))
    outputs = _as_tuple(module(inputs))
    known = {o["name"]: o for o in job["check"]["runs"][0]["outputs"]}
    checks = [
        compare(
            spec.name,
            ours,
            golden[spec.name],
            known[spec.name]["budget"],
            known[spec.name]["floor"],
        ).to_dict()
        for spec, ours in zip(module.outputs, outputs, strict=True)
    ]
    run = {"dims": job["check"]["runs"][0]["dims"], "outputs": checks}
    reference = f"golden outputs of {job['check']['reference']}"
    report = VerifyReport(folder.name, reference, (run,))
    emit("done", step="verify", seconds=None, note=_note(report))
    return report.to_dict()


def complete_inputs(
    manifest: dict[str, Any], given: dict[str, np.ndarray], sizes: dict[str, int], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """All inputs, `given` ones first and the rest at random; and the sizes they have."""
    dims = bind_dimensions(manifest["inputs"], given, sizes)
    return {**random_inputs(manifest["inputs"], dims, seed), **given}, dims


def open_session(path: str, threads: int) -> Any:
    """An ONNX Runtime session with default optimisations on `threads` threads.

    Raises ModelError when ONNX Runtime refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime, the reference, refuses the model: {' '.join(str(error).split())[:300]}",
            where=path,
            hint="--no-verify compiles without the check",
        ) from error


def _check_inputs(module: runtime.Module, model: Any) -> None:
    """Raise OptionError when the reference is another model altogether."""
    ours = [spec.name for spec in module.inputs]
    theirs = [value.name for value in model.inputs()]
    if ours != theirs:
        raise OptionError(
            f"the reference {model.path.name} has inputs {', '.join(theirs)}",
            where=str(module.path),
            expected=f"the model it was compiled from, {module.manifest['model']['file']}, "
            f"with inputs {', '.join(ours)}",
        )


def _sizes_text(dims: dict[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in dims.items())


def _load_reference(job: dict[str, Any], module: runtime.Module) -> Any:
    from tilewright.compiler.importer import shapes
    from tilewright.compiler.importer.load import load
    from tilewright.compiler.importer.normalise import normalise

    model = load(job["model"])
    _check_inputs(module, model)
    dims = {k: v if isinstance(v, int) else tuple(v) for k, v in job["dims"].items()}
    shapes.apply(model, job["shapes"], dims)
    normalise(model)
    return model


def _budgets(model: Any, dims: dict[str, int]) -> dict[str, Any]:
    from tilewright.verification.budget import output_budgets

    return output_budgets(model, dims)


def _engine() -> str:
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def _as_tuple(outputs: Any) -> tuple[np.ndarray, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _note(report: VerifyReport) -> str:
    used = report.worst["used"]
    if used is None:
        return "outside the error budget"
    share = f"{used:.0%} of it used" if used < 10 else f"{used:.0f} times as much"
    share = "under 1% of it used" if used < 0.01 else share
    return f"{'within' if report.passed else 'outside'} the error budget ({share})"
