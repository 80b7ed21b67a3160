"""The front door: compile, load, verify, bench, profile. The command line calls them and prints."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.autotune.records import confirmed_choices
from tilewright.compiler import child
from tilewright.compiler.artifact import Artifact, check_writable, library_of, read_bundle
from tilewright.compiler.importer.torch_program import as_onnx
from tilewright.compiler.steps import OPTIONAL_STAGES, OPTIONAL_STEPS, RULE_STEPS
from tilewright.errors import CheckFailed, ModelError, OptionError, TargetError
from tilewright.options import CompileOptions
from tilewright.targets import Target, host, resolve
from tilewright.targets.parse import built_for
from tilewright.verification.bisect import Switch
from tilewright.verification.library_check import check_library, comparison, golden_outputs
from tilewright.verification.localize import localize as trace_failure
from tilewright.verification.proof import Proof, failure_text

if TYPE_CHECKING:
    import onnx

    from tilewright.compiler.faults import Fault
    from tilewright.compiler.runtime import Module
    from tilewright.passes.fusion import Fusion

Progress = Callable[[dict[str, Any]], None]
Shapes = Mapping[str, Sequence[int]]


def compile(
    model: str | Path | onnx.ModelProto,
    target: str | Target = "native",
    shapes: Shapes | None = None,
    options: CompileOptions | None = None,
    *,
    fusions: Sequence[Fusion] | None = None,
    check: bool = True,
    cache: bool = True,
    db: str | Path | bool = True,
    dump: str | Path | None = None,
    faults: Sequence[Fault] = (),
    progress: Progress | None = None,
) -> Artifact:
    """Compile an ONNX model and check the result against ONNX Runtime.

    `model` is the path of an .onnx or .pt2 file, or an `onnx.ModelProto`; `target` a Target, a
    catalog row's name or "native"; `shapes` fixes inputs ({"x": (1, 3, 224, 224)}). `fusions`
    replaces the default list: `(*DEFAULT_FUSIONS, MINE)` (docs/adding-a-fusion.md). With `cache`,
    kernels compiled before come from the user's cache folder. `db` is a file with tuning records:
    True the user's own, False none. `dump` is a folder for the IR after each stage. `faults` make
    the result wrong on purpose. `progress` is called with {"event": "start" | "done", "step": ...}.

    Raises ModelError or UnsupportedModel for the file, OptionError and TargetError for the
    arguments, FusionError when a fusion of yours fails, CompileError when the compiler does, and
    CheckFailed when the numbers differ.
    """
    options = options or CompileOptions()
    _check_names(options, fusions)
    row = built_for(target, options)
    folder = tempfile.TemporaryDirectory(prefix="tilewright-")
    job = job_of(model, Path(folder.name), row, shapes, options, fusions, progress)
    choices = confirmed_choices(db, row, options.threads or host.default_threads())
    job |= {"dump": _dump_folder(dump), "cache": cache, "choices": choices}
    job["faults"] = _pickled(faults, Path(folder.name) / "faults.pickle") if faults else None
    built = child.call("tilewright.compiler.compile_job:compile_job", job, progress)
    artifact = Artifact(Path(built["library"]), built["manifest"], _folder=folder)
    missing = host.lacks(row)
    if not check:
        artifact.unchecked = "the check was switched off"
        return artifact
    artifact.golden = Path(folder.name) / "golden"
    artifact.golden.mkdir()
    found = (artifact.library, job["path"], options.seed)
    if missing:
        artifact.unchecked = f"this machine lacks {', '.join(missing)} and cannot run the code"
        artifact.expected = golden_outputs(*found, artifact.golden, progress)
    else:
        proof = check_library(*found, golden=artifact.golden, progress=progress)
        if proof.failure is not None:
            raise CheckFailed(
                "the compiled model disagrees with ONNX Runtime",
                where=failure_text(proof.failure),
                hint="`-O1` or `--disable NAME` narrows down which step does it; please report "
                "the model",
            )
        artifact.check = proof.to_dict()
    return artifact


def load(path: str | Path, threads: int | None = None) -> Module:
    """Load a compiled model; see `tilewright.compiler.runtime.load`."""
    from tilewright.compiler import runtime

    return runtime.load(path, threads)


def verify(
    subject: str | Path,
    *,
    model: str | Path | None = None,
    target: str | Target = "native",
    shapes: Shapes | None = None,
    options: CompileOptions | None = None,
    inputs: Sequence[str] = (),
    data: str | Path | None = None,
    examples: int = 50,
    budget: float = 300.0,
    failures: str | Path | None = None,
    threads: int | None = None,
    db: str | Path | bool = True,
    localize: bool = False,
    faults: Sequence[Fault] = (),
    progress: Progress | None = None,
) -> Proof:
    """Compare a model, an artifact or a bundle with its reference (docs/verification.md).

    `subject` is an .onnx file (compiled first), an artifact (.so, with `model` as reference)
    or a bundle's folder (compared with its own golden outputs, which needs no onnxruntime).
    Shapes and values of up to `examples` inputs are drawn by hypothesis, for up to `budget`
    seconds; files in the folder `data` come first. `inputs` are values of `--input`, and then
    nothing is drawn. A failure shrinks to a small one, whose reproduction goes into `failures`.
    With `localize`, a failure of a model is traced to the first wrong tensor and to who did it.
    `faults` make it fail on purpose (`tilewright.compiler.faults`).
    """
    subject = Path(subject)
    options = options or CompileOptions()
    if (localize or faults) and (subject.is_dir() or is_artifact(subject)):
        raise OptionError(
            "what is compiled already cannot be compiled with one step less",
            where=str(subject),
            expected="an .onnx file, for --localize",
        )
    if subject.is_dir():
        _refuse_a_reference(subject, model is not None or bool(inputs) or data is not None)
        refuse_compile_flags(subject, target, shapes, options, db)
        return _verify_bundle(subject, threads, progress)
    _check_drawing(inputs, data, examples, budget)
    if is_artifact(subject):
        if model is None:
            raise OptionError(
                "an artifact alone has nothing to be compared with",
                where=str(subject),
                expected="--model MODEL.onnx, or a bundle, which carries golden outputs",
            )
        refuse_compile_flags(subject, target, shapes, options, db)
        library = subject
    else:
        check_runs_here(target, "a check runs the code")
        built = compile(
            *(subject, target, shapes, options),
            check=False,
            db=db,
            faults=faults,
            progress=progress,
        )
        library, model = built.library, subject
    job = comparison(library, model, options.seed, threads)
    job |= {"inputs": list(inputs), "data": str(data) if data else None}
    job |= {"examples": examples, "budget": budget}
    job |= {"failures": str(Path(failures).resolve()) if failures else None}
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        failing = Path(folder) / "failing.npz"
        job["failing_inputs"] = str(failing) if localize else None
        name = "tilewright.verification.proof_job:proof_job"
        proof = Proof.from_dict(child.call(name, job, progress, doing="verifying"))
        if not localize or proof.failure is None:
            return proof
        again = _Again(target, shapes, options, db, faults)
        cause = trace_failure(
            job, proof.failure, failing, lambda *change: again(subject, *change), progress
        )
        return replace(proof, cause=cause)


def _refuse_a_reference(bundle: Path, given: bool) -> None:
    """Raise OptionError when there is something else to compare a bundle with."""
    if given:
        raise OptionError(
            "a bundle is compared with its own golden outputs, on its own inputs",
            where=str(bundle),
            expected="no --model, no --input and no --data",
            hint=f"verify {bundle / 'model.so'} takes them",
        )


def _verify_bundle(folder: Path, threads: int | None, progress: Progress | None) -> Proof:
    """A bundle against its golden outputs."""
    job = {"folder": str(folder), "threads": threads, "check": read_bundle(folder)["check"]}
    name = "tilewright.verification.bundle_job:bundle_job"
    return Proof.from_dict(child.call(name, job, progress, doing="verifying"))


def _check_drawing(
    inputs: Sequence[str], data: str | Path | None, examples: int, budget: float
) -> None:
    """Raise OptionError when this cannot say what a library is to be run on."""
    if examples < 1:
        raise OptionError(f"{examples} examples", expected="1 or more")
    if budget <= 0:
        raise OptionError(f"a budget of {budget:g} s", expected="more than 0, such as 5m")
    if data is not None and inputs:
        raise OptionError("--data and --input both say what to run", expected="one of them")
    if data is not None and not Path(data).is_dir():
        raise OptionError("--data names no folder", where=str(data))


class _Again:
    """Compiles as before but for a switch; keeps the last library alone."""

    def __init__(
        self,
        target: str | Target,
        shapes: Shapes | None,
        options: CompileOptions,
        db: str | Path | bool,
        faults: Sequence[Fault],
    ) -> None:
        self._target, self._shapes, self._options = target, shapes, options
        self._db, self._faults = db, faults
        self._built: Artifact | None = None

    def __call__(self, subject: Path, switch: Switch, part: Path | None) -> Path:
        level = self._options.opt_level if switch.level is None else switch.level
        disable = (*self._options.disable, *switch.disable)
        options = replace(self._options, opt_level=level, disable=disable)
        # A part of the model has the sizes of the example.
        options = options if part is None else replace(options, dims={})
        self._built = compile(
            part or subject,
            self._target,
            self._shapes if part is None else None,
            options,
            check=False,
            db=self._db if switch.records else False,
            faults=self._faults,
        )
        return self._built.library


def analyze(
    model: str | Path | onnx.ModelProto,
    target: str | Target = "native",
    shapes: Shapes | None = None,
    options: CompileOptions | None = None,
    *,
    fusions: Sequence[Fusion] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What fusion does to a model, without generating code (docs/fusion-report.md).

    Returns JSON values: groups with their ONNX nodes, operations, bytes and intensity before and
    after; coverage; what is left alone, and near misses with their reasons.
    """
    options = options or CompileOptions()
    _check_names(options, fusions)
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        job = job_of(model, Path(folder), resolve(target), shapes, options, fusions, progress)
        name = "tilewright.analysis.analyze_job:analyze_job"
        return child.call(name, job, progress, doing="analyzing")


def preflight(
    model: str | Path | onnx.ModelProto,
    target: str | Target = "native",
    shapes: Shapes | None = None,
    options: CompileOptions | None = None,
    *,
    fusions: Sequence[Fusion] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Whether a model will compile, without generating code (docs/preflight.md).

    Returns JSON values: `compiles`, `findings` with all that stands in the way, operators with who
    converts them, open dimensions and what they need, and estimates of operations and memory.
    Raises ModelError for a file that is not a valid model.
    """
    options = options or CompileOptions()
    _check_names(options, fusions)
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        job = job_of(model, Path(folder), resolve(target), shapes, options, fusions, progress)
        name = "tilewright.analysis.preflight_job:preflight_job"
        return child.call(name, job, progress, doing="preflight")


def bench(
    subject: str | Path,
    *,
    model: str | Path | None = None,
    target: str | Target = "native",
    shapes: Shapes | None = None,
    options: CompileOptions | None = None,
    inputs: Sequence[str] = (),
    threads: int | None = None,
    seconds: float = 10.0,
    db: str | Path | bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Latency beside ONNX Runtime's: same inputs, same threads, taken in turns in one run.

    Returns JSON values, in seconds and bytes: for each engine load, first call, median with
    10th and 90th percentile, and peak memory; and the ratio (docs/bench.md).
    """
    subject = library_of(Path(subject))
    options = options or CompileOptions()
    built = _built(subject, target, shapes, options, db, progress)
    from tilewright.analysis.latency import measure

    return measure(
        built.library if built else subject,
        subject if built else model,
        threads=threads or options.threads or host.default_threads(),
        inputs=inputs,
        seed=options.seed,
        seconds=seconds,
        progress=progress,
    )


def profile(
    subject: str | Path,
    *,
    target: str | Target = "native",
    shapes: Shapes | None = None,
    options: CompileOptions | None = None,
    inputs: Sequence[str] = (),
    threads: int | None = None,
    seconds: float = 3.0,
    db: str | Path | bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Where the time of a run goes: each kernel of a model, an artifact or a bundle.

    Returns JSON values, in seconds, bytes and operations: the whole run, and of each kernel its
    time, share, operations and bytes per second, which of them limits it on this machine and how
    near it comes to that limit, and its ONNX nodes (docs/profile.md).
    """
    subject = library_of(Path(subject))
    options = options or CompileOptions()
    built = _built(subject, target, shapes, options, db, progress)
    from tilewright.analysis.profile import measure

    return measure(
        built.library if built else subject,
        threads=threads or options.threads or host.default_threads(),
        inputs=inputs,
        seed=options.seed,
        seconds=seconds,
        progress=progress,
    )


def _built(
    subject: Path,
    target: str | Target,
    shapes: Shapes | None,
    options: CompileOptions,
    db: str | Path | bool,
    progress: Progress | None,
) -> Artifact | None:
    """`subject` compiled in order to be measured; None where it is a library already."""
    if is_artifact(subject):
        refuse_compile_flags(subject, target, shapes, options, db)
        return None
    check_runs_here(target, "a measurement runs the code")
    return compile(subject, target, shapes, options, check=False, db=db, progress=progress)


def check_runs_here(target: str | Target, why: str) -> None:
    """Raise TargetError unless this machine can run code for `target`, for the reason `why`."""
    row = resolve(target)
    if missing := host.lacks(row):
        raise TargetError(
            f"this machine cannot run code for {row.name}, and {why}",
            expected=f"a CPU with {', '.join(missing)}",
            hint="use -t native, or do it on a machine that has them",
        )


def refuse_compile_flags(
    subject: Path,
    target: str | Target,
    shapes: Shapes | None,
    options: CompileOptions,
    db: str | Path | bool = True,
) -> None:
    """What is compiled already cannot be compiled otherwise: say so instead of ignoring it."""
    plain = CompileOptions(seed=options.seed, threads=options.threads)
    if target != "native" or shapes or options != plain or db is not True:
        raise OptionError(
            "the library is compiled already",
            where=str(subject),
            expected="no -t, -O, --shape, --dim, --disable, --only, --db or --no-db",
            hint="give the .onnx file to compile it with them",
        )


def is_artifact(path: Path) -> bool:
    """Whether `path` holds a library rather than a model, by its content.

    Raises ModelError when there is no such file.
    """
    if not path.is_file():
        raise ModelError(
            "there is no such file",
            where=str(path),
            expected="an .onnx model, a compiled .so, or a bundle's folder",
        )
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def job_of(
    model: str | Path | onnx.ModelProto,
    folder: Path,
    target: Target,
    shapes: Shapes | None,
    options: CompileOptions,
    fusions: Sequence[Fusion] | None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What the child process is told, as JSON values; fusions travel as a pickle in `folder`."""
    pickled = None if fusions is None else _pickled(fusions, folder / "fusions.pickle")
    return {
        "path": str(_as_file(model, folder, progress)),
        "target": target.to_dict(),
        "options": options.to_dict(),
        "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
        "folder": str(folder),
        "fusions": pickled,
    }


def _pickled(values: Sequence[Any], path: Path) -> str:
    """`path`, where `values` lie pickled by value for the compiler's process."""
    import cloudpickle

    try:
        path.write_bytes(cloudpickle.dumps(tuple(values)))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise OptionError(
            f"the {path.stem} cannot be handed to the compiler's process: {error}",
            expected="functions that cloudpickle can copy: no locks, no sockets",
        ) from error
    return str(path)


def _check_names(options: CompileOptions, fusions: Sequence[Fusion] | None) -> None:
    """Raise OptionError unless `fusions` are fusions, and the steps that `options` name exist."""
    if fusions:
        from tilewright.passes.fusion import check_list

        check_list(fusions, reserved=(*OPTIONAL_STAGES, *RULE_STEPS))
    known = list(dict.fromkeys([*OPTIONAL_STEPS, *(fusion.name for fusion in fusions or ())]))
    for name in (*options.disable, *options.only):
        if name not in known:
            raise OptionError(
                f"there is no fusion, rule or optional step called {name!r}",
                expected=f"one of: {', '.join(known)}",
            )


def _as_file(model: str | Path | onnx.ModelProto, folder: Path, progress: Progress | None) -> Path:
    if isinstance(model, str | Path):
        # Here, so that it shows what takes the time; whoever reads the model finds it in the cache.
        as_onnx(Path(model), progress)
        return Path(model).resolve()
    path = folder / f"{model.graph.name or 'model'}.onnx".replace("/", "_")
    path.write_bytes(model.SerializeToString())
    return path


def _dump_folder(dump: str | Path | None) -> str | None:
    if dump is None:
        return None
    folder = Path(dump)
    check_writable(folder)
    folder.mkdir(exist_ok=True)
    return str(folder.resolve())
