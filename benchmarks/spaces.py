"""Times of the choices of a few operators, drawn evenly from all there are.

    python -m benchmarks.spaces [--tasks NAME ...] [--samples 1000] [--threads 1]

Each choice is built, checked and measured as a session's trials are, against the default, which is
the first row; those that are clearly slower after one turn are measured no longer. Kept in
results/spaces/, for `benchmarks.replay`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.kernels import model_of
from benchmarks.operators import Conv, Gemm
from tilewright import api
from tilewright.autotune.build import Conditions, built, start
from tilewright.autotune.farm import Farm
from tilewright.autotune.session import BATCH
from tilewright.autotune.space import Candidate, Space
from tilewright.autotune.tasks import Task, inputs_of, tasks_of
from tilewright.compiler import pipeline, pool
from tilewright.compiler.compile_job import work_of
from tilewright.compiler.kernel_cache import KernelCache, default_folder
from tilewright.devices.device import DEFAULT
from tilewright.devices.duel import Duel
from tilewright.devices.local import LocalDevice
from tilewright.devices.program import save_arguments
from tilewright.options import CompileOptions
from tilewright.targets import resolve

SPACES = machine.RESULTS / "spaces"
SEED = 0
# Draws in a row that bring nothing new: all there is was drawn.
MOST_REPEATS = 2000
# One operator each, from networks of different kinds.
TASKS: dict[str, Conv | Gemm] = {
    "resnet_stem": Conv(3, 224, 64, 7, stride=2),
    "resnet_3x3_56": Conv(64, 56, 64, 3),
    "resnet_3x3_14": Conv(256, 14, 256, 3),
    "resnet_3x3_7": Conv(512, 7, 512, 3),
    "resnet_3x3_stride": Conv(128, 56, 128, 3, stride=2),
    "resnet_reduce": Conv(512, 28, 128, 1),
    "resnet_expand": Conv(128, 28, 512, 1),
    "mobilenet_project": Conv(384, 14, 64, 1),
    "mobilenet_head": Conv(320, 7, 1280, 1),
    "bert_up": Gemm(128, 768, 3072),
    "bert_down": Gemm(128, 3072, 768),
    "vit_out": Gemm(197, 768, 768),
    "whisper_up": Gemm(1500, 384, 1536),
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure the choices of each task and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--samples", type=int, default=1000, help="choices of a task at most")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(words)
    for name in arguments.tasks:
        record(name, arguments.samples, arguments.threads)
    return 0


def file_of(name: str) -> Path:
    """Where the times of a task are kept."""
    return SPACES / f"{name}.json.gz"


def record(name: str, count: int, threads: int) -> None:
    """Measure at most `count` choices of a task and keep them."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        task = _task(TASKS[name], Path(folder))
        space = Space(task, resolve("native"))
        drawn, whole = draws(space, count)
        rows = [_row(space.default(), 1.0), *_measured(task, drawn, Path(folder), threads)]
    SPACES.mkdir(parents=True, exist_ok=True)
    data = {"machine": machine.describe(), "threads": threads, "whole": whole, "rows": rows}
    file_of(name).write_bytes(gzip.compress(json.dumps(data).encode(), mtime=0))
    failed = sum(row["ratio"] is None for row in rows)
    print(
        f"{name}: {len(drawn)} choices{', all there are' if whole else ''}, {failed} failed; "
        f"{time.perf_counter() - begin:.0f} s",
        flush=True,
    )


def draws(space: Space, count: int) -> tuple[list[Candidate], bool]:
    """At most `count` choices beside the default, drawn by chance; and whether these are all."""
    source, found, repeats = random.Random(SEED), {}, 0
    default = space.default().key
    while len(found) < count and repeats < MOST_REPEATS:
        candidate = space.anywhere(source)
        new = candidate.key not in found and candidate.key != default
        repeats = 0 if new else repeats + 1
        if new:
            found[candidate.key] = candidate
    return list(found.values()), len(found) < count


def _task(operator: Conv | Gemm, folder: Path) -> Task:
    path = folder / "model.onnx"
    path.write_bytes(model_of(operator).SerializeToString())
    work = work_of(api.job_of(path, folder, resolve("native"), None, CompileOptions(), None))
    stages = pipeline.chosen_stages(work.options)
    for stage in stages[: [stage.name for stage in stages].index("fuse") + 1]:
        stage.run(work)
    (task,) = tasks_of(work)[0]
    return task


def _measured(
    task: Task, drawn: list[Candidate], folder: Path, threads: int
) -> list[dict[str, Any]]:
    cache = KernelCache(default_folder())
    conditions = Conditions(resolve("native"), pool.write_object(folder), cache, folder)
    farm = Farm([LocalDevice(threads)], print)
    place = folder / "task"
    place.mkdir()
    save_arguments(place, inputs_of(task, SEED))
    if failure := built(start(task, None, conditions, place / DEFAULT))[1]:
        raise failure
    rows = []
    for first in range(0, len(drawn), BATCH):
        named = {f"choice{n}": c for n, c in enumerate(drawn[first : first + BATCH])}
        builds = {n: start(task, c.choice, conditions, place / n) for n, c in named.items()}
        programs = [(name, built(process)[1]) for name, process in builds.items()]
        for name, found in farm.duels(place, programs):
            rows.append(_row(named[name], found.ratio if isinstance(found, Duel) else None))
        for name in named:
            shutil.rmtree(place / name, ignore_errors=True)
    farm.close()
    return rows


def _row(candidate: Candidate, ratio: float | None) -> dict[str, Any]:
    """A choice, and its time over the default's; None where it failed."""
    choice = candidate.choice
    row = {"rule": choice.rule, "knobs": dict(choice.knobs), "facts": dict(candidate.facts)}
    return {**row, "ratio": ratio}


if __name__ == "__main__":
    sys.exit(main())
