"""The three that compute a model: our library, ONNX Runtime, and the model in double precision."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler import runtime
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.graph import all_graphs, random_tensors
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise import normalise
from tilewright.errors import InputError, ModelError, OptionError
from tilewright.verification.budget import coarsest_unit, output_budgets
from tilewright.verification.reference import DoubleReference, NoReference
from tilewright.verification.session import open_session
from tilewright.verification.tolerance import FACTOR, WINOGRAD_FACTOR, Tolerance, Verdict, scale_of

Arrays = Mapping[str, np.ndarray]
# What ONNX Runtime may take for a model with loops: some do not end on random inputs.
MOST_SECONDS = 30.0
# How often the tensors are rounded at random to see how far that moves an output.
ROUNDINGS = 3
# Our outputs, or why there are none, and ONNX Runtime's.
Results = tuple[tuple[np.ndarray, ...] | str, list[np.ndarray]]


class Refused(Exception):
    """An engine refuses an input, so that nothing can be compared; says why.

    `ours` when it is our library, and ONNX Runtime takes the input.
    """

    def __init__(self, what: str, *, ours: bool = False) -> None:
        super().__init__(what)
        self.ours = ours


class Engines:
    """Runs inputs through ours and through ONNX Runtime, and judges what comes out.

    `job` names the `library`, the `model` with the `shapes` and `dims` it was compiled for, and
    `threads`. With `exact`, the model in double precision is the yardstick; without, the error
    that rounding explains.
    """

    def __init__(self, job: Mapping[str, Any], *, exact: bool) -> None:
        self.module = runtime.load(job["library"], job["threads"])
        model = load(job["model"])
        _check_inputs(self.module, model)
        dims = {k: v if isinstance(v, int) else tuple(v) for k, v in job["dims"].items()}
        shapes.apply(model, job["shapes"], dims)
        self._same_file = model.sha256 == self.module.manifest["model"]["sha256"]
        self.session = open_session(job["model"], self.module.threads)
        # Why there is no truth to compare with, once that is known.
        self.no_truth: str | None = None
        self._truth = self._reference(model) if exact else None
        # Budgets are derived from the nodes that are left when constants are folded.
        normalise(model)
        self._model = model
        # Functions are written out by now.
        graphs = all_graphs(model.graph)
        self._has_loops = any(node.op_type == "Loop" for graph in graphs for node in graph.node)
        self._random = random_tensors(model.graph, model.constants())
        rules = {kernel["rule"] for kernel in self.module.manifest["kernels"]}
        self._tolerance = Tolerance(WINOGRAD_FACTOR if "winograd" in rules else FACTOR)

    def _reference(self, model: OnnxModel) -> DoubleReference | None:
        try:
            return DoubleReference(model)
        except NoReference as error:
            self.no_truth = str(error)
            return None

    @property
    def subject(self) -> str:
        """What is being verified, as a report calls it."""
        if self._same_file:
            return self.module.manifest["model"]["file"]
        return f"{Path(self.module.path).name} (compiled from another file than the reference)"

    def run(self, inputs: Arrays) -> Results:
        """Our outputs, or what went wrong, and ONNX Runtime's.

        Raises InputError for inputs that do not fit the model's interface, and Refused when an
        engine refuses them for another reason.
        """
        feed = dict(inputs)
        self.module.check(feed)
        try:
            theirs = self._their_run(feed)
        except ModelError:
            raise
        except Exception as error:
            raise Refused(" ".join(str(error).split())[:300]) from error
        try:
            return as_tuple(self.module(feed)), theirs
        except InputError as error:
            raise Refused(error.what, ours=True) from error
        except Exception as error:
            return " ".join(str(error).split())[:300], theirs

    def _their_run(self, feed: Arrays) -> list[np.ndarray]:
        """ONNX Runtime's outputs; a model with loops has MOST_SECONDS for them."""
        if not self._has_loops:
            return self.session.run(None, dict(feed))
        import onnxruntime

        how = onnxruntime.RunOptions()
        stop = threading.Timer(MOST_SECONDS, setattr, (how, "terminate", True))
        stop.start()
        try:
            return self.session.run(None, dict(feed), how)
        except Exception as error:
            if not how.terminate:
                raise
            raise ModelError(
                f"ONNX Runtime does not end within {MOST_SECONDS:.0f} s on random inputs",
                where=self._model.path.name,
                expected="loops that end",
                hint="--input gives values; --no-verify compiles without the check",
            ) from error
        finally:
            stop.cancel()

    def calibrate(self, inputs: Arrays, dims: Mapping[str, int]) -> None:
        """Note ONNX Runtime's error on `inputs`, before anything is judged by it.

        Raises Refused when an engine does not take them.
        """
        _, theirs = self.run(inputs)
        truth = self._truth_of(inputs, theirs)
        budgets = output_budgets(self._model, dict(dims))
        for spec, array in zip(self.module.outputs, theirs, strict=True):
            if spec.name in truth:
                self._tolerance.learn(spec.name, array, truth[spec.name], budgets[spec.name])

    def compare(
        self,
        inputs: Arrays,
        dims: Mapping[str, int],
        results: Results,
    ) -> list[Verdict]:
        """The verdict on each output of `run`, for inputs of sizes `dims`."""
        ours, theirs = results
        names = [spec.name for spec in self.module.outputs]
        if isinstance(ours, str):
            return [Verdict(name, False, problem=f"our library fails: {ours}") for name in names]
        pairs = list(zip(names, ours, theirs, strict=True))
        compared = [pair for pair in pairs if pair[0] not in self._random]
        judged = iter(self._judged(inputs, dims, theirs, compared) if compared else [])
        return [
            self._tolerance.of_chance(*pair) if pair[0] in self._random else next(judged)
            for pair in pairs
        ]

    def _judged(
        self,
        inputs: Arrays,
        dims: Mapping[str, int],
        theirs: Sequence[np.ndarray],
        pairs: Sequence[tuple[str, np.ndarray, np.ndarray]],
    ) -> list[Verdict]:
        """The verdict on each output: its name, ours, and that of `theirs`."""
        if self._truth is not None:
            verdicts = [self._tolerance.passes_at_sight(name, a, b) for name, a, b in pairs]
            if None not in verdicts:
                return verdicts
        budgets = output_budgets(self._model, dict(dims))
        truth = self._truth_of(inputs, theirs)
        moved = functools.partial(self._moved, inputs, truth, theirs)
        return [
            self._tolerance.judge(name, a, b, truth[name], budgets[name], moved)
            if name in truth
            else self._tolerance.without_truth(name, a, b, budgets[name])
            for name, a, b in pairs
        ]

    def _moved(
        self,
        inputs: Arrays,
        truth: Mapping[str, np.ndarray],
        theirs: Sequence[np.ndarray],
        name: str,
    ) -> float:
        """How far one rounding of every tensor moves output `name`, relative to its largest.

        The largest of a few tries: what rounds up and what down is chance.
        """
        # Half a unit of a double would be rounded away again.
        unit = max(coarsest_unit(self._model), np.finfo(np.float64).eps)
        dtypes = {s.name: a.dtype for s, a in zip(self.module.outputs, theirs, strict=True)}
        found = 0.0
        for seed in range(ROUNDINGS):
            near = self._truth_of(inputs, theirs, unit, seed).get(name)
            if near is None:
                return 0.0
            finite = np.isfinite(truth[name]) & np.isfinite(near)
            off = np.abs(near[finite] - truth[name][finite]).max(initial=0.0)
            found = max(found, float(off) / scale_of(truth[name][finite], dtypes[name]))
        return found

    def _truth_of(
        self, inputs: Arrays, theirs: Sequence[np.ndarray], unit: float = 0.0, seed: int = 0
    ) -> dict[str, np.ndarray]:
        """The outputs in double precision, without those of another shape than `theirs`.

        With `unit`, every tensor is off by that share of itself, up or down as `seed` says.
        """
        if self._truth is None:
            return {}
        try:
            found = self._truth(inputs, unit, seed)
        except NoReference as error:
            self.no_truth = str(error)
            return {}
        truth = {}
        for spec, array in zip(self.module.outputs, theirs, strict=True):
            if found[spec.name].shape == array.shape:
                truth[spec.name] = found[spec.name]
            else:
                shapes = f"{list(found[spec.name].shape)} and not {list(array.shape)}"
                self.no_truth = f"onnx's reference gives {spec.name} the shape {shapes}"
        return truth


def as_tuple(outputs: Any) -> tuple[np.ndarray, ...]:
    """The results of a call of a module: one array or several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def engine_name() -> str:
    """ONNX Runtime and its version."""
    import onnxruntime

    return f"ONNX Runtime {onnxruntime.__version__}"


def _check_inputs(module: runtime.Module, model: OnnxModel) -> None:
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
