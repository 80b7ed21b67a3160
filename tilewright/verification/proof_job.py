"""What the child process does for `tilewright.verify`: examples are drawn, run and judged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import platformdirs
from hypothesis.database import DirectoryBasedExampleDatabase

from tilewright.compiler.artifact import save_arrays
from tilewright.compiler.child import Emit
from tilewright.compiler.importer.torch_program import as_onnx
from tilewright.errors import InputError
from tilewright.verification import reproduction
from tilewright.verification.engines import Engines, Refused, engine_name
from tilewright.verification.inputs import (
    bind_dimensions,
    complete_inputs,
    read_inputs,
    round_sizes,
    sizes_to_try,
)
from tilewright.verification.proof import Proof, sizes_text, used_text
from tilewright.verification.strategies import FLOAT_KINDS, Example, examples_for

# Hypothesis goes on to smaller examples after a failure; for no longer than this, in seconds.
SHRINK_SECONDS = 90.0


class _Disagreement(Exception):
    """An example failed."""


class _TimeIsUp(KeyboardInterrupt):
    """Not an Exception: hypothesis would take one for another failing example."""


class Session:
    """Examples one after the other, the time they may take, and what was found so far."""

    def __init__(self, job: Mapping[str, Any], emit: Emit) -> None:
        self.engines = Engines(job, exact=True)
        self.examples: list[dict[str, Any]] = []
        # Why ONNX Runtime refused inputs, and why our library did where ONNX Runtime did not.
        self.refusals: list[str] = []
        self.limits: list[str] = []
        # The smallest example that failed so far, and its inputs.
        self.failure: dict[str, Any] | None = None
        self.failing_inputs: Mapping[str, np.ndarray] = {}
        self._emit = emit
        self._wanted = job["examples"]
        self._begin = time.monotonic()
        self._deadline = self._begin + job["budget"]

    def calibrate(self, seed: int) -> None:
        """Learn how much ONNX Runtime errs, on an example of each kind of values.

        They have the first sizes that both engines take.
        """
        dims = self.manifest["dims"]
        sizes = [sizes_to_try(dims)[-1], *round_sizes(dims)]
        for kind in FLOAT_KINDS:
            self._emit("at", step=f"verify: ONNX Runtime's own error, {kind} values")
            for tried in sizes:
                example = Example(tuple(tried.items()), kind, seed)
                with contextlib.suppress(Refused):
                    self.engines.calibrate(example.arrays(self.manifest["inputs"]), tried)
                    sizes = [tried]
                    break

    @property
    def manifest(self) -> dict[str, Any]:
        """What the library says of itself."""
        return self.engines.module.manifest

    def attempt(self, inputs: Mapping[str, np.ndarray], kind: str, seed: int) -> None:
        """Compare on `inputs`; raises Refused, or _Disagreement when an output is wrong."""
        # One example is compared, however long ONNX Runtime's own error took to measure.
        if time.monotonic() > self._deadline and (self.examples or self.failure):
            raise _TimeIsUp
        bound = bind_dimensions(self.manifest["inputs"], inputs, {})
        dims = {name: bound[name] for name in self.manifest["dims"]}
        try:
            results = self.engines.run(inputs)
        except Refused as error:
            why = f"{sizes_text(dims)}: {error}" if dims else str(error)
            (self.limits if error.ours else self.refusals).append(why)
            raise
        verdicts = self.engines.compare(inputs, dims, results)
        shown = [verdict.to_dict() for verdict in verdicts]
        example = {"dims": dims, "kind": kind, "seed": seed, "verdicts": shown}
        if all(verdict.passed for verdict in verdicts):
            if self.failure is None:
                self.examples.append(example)
                sizes = f", {sizes_text(dims)}" if dims else ""
                count = f"{len(self.examples)} of {self._wanted}"
                self._emit("at", step=f"verify: {count} examples{sizes}")
            return
        if self.failure is None:
            self._deadline = time.monotonic() + SHRINK_SECONDS
            self._emit("at", step="verify: a failure; looking for a smaller one")
        if self.failure is None or _size(inputs) < _size(self.failing_inputs):
            self.failure = {**example, "folder": None}
            self.failing_inputs = dict(inputs)
        raise _Disagreement

    def proof(self, stopped: str | None) -> Proof:
        """The result, once all examples are through."""
        return Proof(
            self.engines.subject,
            engine_name(),
            tuple(self.examples),
            self.failure,
            refused=len(self.refusals),
            refusal=self.refusals[0] if self.refusals else None,
            limits=len(self.limits),
            limit=self.limits[0] if self.limits else None,
            no_truth=self.engines.no_truth,
            stopped=stopped,
            seconds=time.monotonic() - self._begin,
        )


def proof_job(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Compare a library with ONNX Runtime on drawn or given inputs; a Proof's dict."""
    emit("start", step="verify")
    session = Session(job, emit)
    session.calibrate(job["seed"])
    stopped = None
    try:
        if job["inputs"]:
            _try_given(session, job)
        else:
            _try_files(session, job)
            _draw(session, job)
    except _TimeIsUp:
        if session.failure is None:
            stopped = f"after {job['budget']:.0f} s"
    except _Disagreement:
        pass
    if session.failure is not None and job["failing_inputs"] is not None:
        save_arrays(Path(job["failing_inputs"]), dict(session.failing_inputs))
    if session.failure is not None and job["failures"] is not None:
        session.failure["folder"] = str(_write(session, job))
    proof = session.proof(stopped)
    number = f"{len(proof.examples)} examples, " if len(proof.examples) > 1 else ""
    passed = f"{number}{used_text(proof)}"
    emit("done", step="verify", seconds=None, note=passed if proof.passed else _wrong(proof))
    return proof.to_dict()


def _wrong(proof: Proof) -> str:
    return "outside the tolerance" if proof.failure else "every input was refused"


def _try_given(session: Session, job: Mapping[str, Any]) -> None:
    """The one example that `--input` describes."""
    given, _ = read_inputs(job["inputs"], session.manifest["inputs"])
    least = {name: max(1, low) for name, (low, _) in session.manifest["dims"].items()}
    inputs, _ = complete_inputs(session.manifest, given, least, job["seed"])
    with contextlib.suppress(Refused):
        session.attempt(inputs, "given", job["seed"])


def _try_files(session: Session, job: Mapping[str, Any]) -> None:
    """An example for each file in `--data`."""
    for name, inputs in _files(job["data"], session.manifest["inputs"]):
        with contextlib.suppress(Refused):
            session.attempt(inputs, f"file {name}", job["seed"])


def _files(
    folder: str | None, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """`.npz` files hold arrays by input name; a `.npy` is for a model with a single input."""
    if folder is None:
        return
    paths = [p for p in sorted(Path(folder).iterdir()) if p.suffix in (".npy", ".npz")]
    if not paths:
        raise InputError(
            "--data names a folder without inputs",
            where=folder,
            expected=".npz files with arrays by input name, or .npy files for a single input",
        )
    for path in paths:
        spec = str(path) if path.suffix == ".npz" else f"{rows[0]['name']}={path}"
        arrays, _ = read_inputs([spec], list(rows))
        missing = [row["name"] for row in rows if row["name"] not in arrays]
        if missing:
            raise InputError(
                f"no value for {', '.join(missing)}", where=str(path), expected="every input"
            )
        yield path.name, arrays


def _draw(session: Session, job: Mapping[str, Any]) -> None:
    """Draw examples until there are enough; raises what the last of them raised."""
    rows = session.manifest["inputs"]
    # Failures are remembered by model, and the next run begins with them.
    known = platformdirs.user_data_path("tilewright") / "examples"
    model = session.manifest["model"]["sha256"]

    @hypothesis.seed(job["seed"])
    @hypothesis.settings(
        max_examples=job["examples"],
        database=DirectoryBasedExampleDatabase(known / model[:16]),
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=set(hypothesis.Phase) - {hypothesis.Phase.explain},
        print_blob=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(examples_for(rows, session.manifest["dims"]))
    def attempt(example: Example) -> None:
        try:
            session.attempt(example.arrays(rows), example.kind, example.seed)
        except Refused:
            hypothesis.reject()

    # Unsatisfiable: every input was refused, which the proof says. Flaky: wrong once and right
    # the next time, which is a failure all the same and stands in the session.
    with contextlib.suppress(hypothesis.errors.Unsatisfiable, hypothesis.errors.Flaky):
        attempt()


def _size(inputs: Mapping[str, np.ndarray]) -> int:
    return sum(array.size for array in inputs.values())


def _write(session: Session, job: Mapping[str, Any]) -> Path:
    # For a program of PyTorch's, its export: to see the failure again needs no PyTorch.
    model = as_onnx(Path(job["model"]))
    folder = Path(job["failures"]) / f"{model.stem}-{session.manifest['model']['sha256'][:8]}"
    return reproduction.write(
        folder,
        model,
        session.manifest,
        session.engines.module.threads,
        session.failing_inputs,
        session.failure,
    )
