"""The front door of tuning: `tilewright.tune`. The command line calls it and prints."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright import api
from tilewright.autotune.records import Database, default_path, fingerprint
from tilewright.compiler import child
from tilewright.compiler.artifact import Artifact
from tilewright.devices.where import Where
from tilewright.errors import OptionError
from tilewright.options import CompileOptions
from tilewright.targets import Target, host, resolve
from tilewright.verification.library_check import check_library, golden_outputs

if TYPE_CHECKING:
    import onnx


def tune(
    model: str | Path | onnx.ModelProto,
    target: str | Target = "native",
    shapes: api.Shapes | None = None,
    options: CompileOptions | None = None,
    *,
    budget: float | None = 1200.0,
    trials: int | None = None,
    min_gain: float = 0.01,
    fresh: bool = False,
    tasks: str | None = None,
    db: str | Path | None = None,
    threads: int | None = None,
    cache: bool = True,
    devices: Where | None = None,
    progress: api.Progress | None = None,
) -> dict[str, Any]:
    """Find, by measuring on this machine, which kernels make a model fastest (docs/tuning.md).

    Ends after `budget` seconds or `trials` trials, or when nothing is left that helps. Every trial
    is kept in `db`, by default a file of the user's own; those that win in the end by `min_gain` or
    more, task by task and in the whole model, are confirmed there, and `compile` applies them. What
    was tried before is not tried again, unless `fresh`. `tasks` is a pattern (`*`, `?`) of groups
    or ONNX nodes. `devices` are boards that measure instead of this machine, `threads` is then by
    default the number of `target`'s cores (docs/tuning.md).

    Returns JSON values: the tasks with their times before and after, in seconds; the whole model's;
    what was left alone and why. Raises as `compile` does.
    """
    options = options or CompileOptions()
    _check_tuning(target if devices is None else None, budget, trials, min_gain)
    path = Path(db) if db else default_path()
    # Before minutes of work: can a trial be kept?
    Database(path).append([])
    row = resolve(target)
    own = host.default_threads() if devices is None else row.cores
    threads = threads or options.threads or own
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        job = api.job_of(model, Path(folder), row, shapes, options, None, progress)
        job |= {"db": str(path), "threads": threads, "budget": budget, "trials": trials}
        job |= {"min_gain": min_gain, "fresh": fresh, "tasks": tasks, "cache": cache}
        job |= {"seed": options.seed, "devices": devices.to_dict() if devices else None}
        name = "tilewright.autotune.session:session_job"
        found = child.call(name, job, progress, doing="tuning")
        if found["won"]:
            from tilewright.autotune import whole

            libraries = [_compiled(job, c, progress) for c in ({}, whole.choices(found["won"]))]
            found["model"] = whole.confirm(job, found["won"], fingerprint(row), *libraries)
    return {**found, "db": str(path), "threads": threads}


def _compiled(
    job: dict[str, Any], choices: dict[str, Any], progress: api.Progress | None
) -> Artifact:
    """The model of `job` with `choices`, compared with ONNX Runtime where there are any."""
    folder = tempfile.TemporaryDirectory(prefix="tilewright-")
    job = {**job, "folder": folder.name, "choices": choices, "dump": None, "faults": None}
    built = child.call("tilewright.compiler.compile_job:compile_job", job, progress)
    artifact = Artifact(Path(built["library"]), built["manifest"], _folder=folder)
    found = (artifact.library, job["path"], job["seed"])
    if choices and host.lacks(Target.from_dict(job["target"])):
        # The board checks it, against what ONNX Runtime gives here.
        artifact.golden = Path(folder.name) / "golden"
        artifact.golden.mkdir()
        artifact.expected = golden_outputs(*found, artifact.golden, progress)
    elif choices:
        artifact.check = check_library(*found, progress=progress).to_dict()
    return artifact


def _check_tuning(
    target: str | Target | None, budget: float | None, trials: int | None, min_gain: float
) -> None:
    """Raise an error for what cannot be; `target` is None where a board measures."""
    if target is not None:
        api.check_runs_here(target, "a session measures the code")
    if budget is not None and budget <= 0:
        raise OptionError(f"a budget of {budget:g} s", expected="more than 0, such as 20m")
    if trials is not None and trials < 1:
        raise OptionError(f"{trials} trials", expected="1 or more")
    if not 0 <= min_gain < 1:
        raise OptionError(f"a least gain of {min_gain:g}", expected="0 to 1, such as 1%")
