"""A choice for a task becomes a program, in a process of its own: lowered, compiled, saved.

The kernels are those that `tilewright compile` would make with the same choice, from the same
cache.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from tilewright.analysis.sizes import evaluated
from tilewright.autotune.lock import locked
from tilewright.autotune.tasks import Task
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.compiler.kernels import compile_kernels
from tilewright.compiler.operations import operations
from tilewright.devices import program
from tilewright.devices.process import Process, Send, TrialFailed
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import Choice, lower, lower_by
from tilewright.targets.rules.knobs import Choices, choosing
from tilewright.targets.toolchain import toolchain_for

BUILD_SECONDS = 120.0
# Rounding errors of a sum of k products, in units in the last place of its scale: they grow with
# the root of k, of which a few times the expected size is allowed (Higham 2002, section 3.1).
ROUNDING = 4.0
# What the transforms of Winograd's algorithm for 4x4 outputs make of them: measured 8 to 20 times.
WINOGRAD_GROWTH = 64


@dataclass(frozen=True)
class Conditions:
    """What all programs of a session share.

    `pool` is the object file of the threads, and `folder` is for temporary files.
    """

    target: Target
    pool: Path
    cache: KernelCache | None
    folder: Path


def start(task: Task, choice: Choice | None, conditions: Conditions, folder: Path) -> Process:
    """Begin to build `choice`, or the default, into the new folder `folder`, when a CPU is free.

    The process answers once, with the name of the rule and the floating-point operations.
    """

    def work(send: Send, _commands: Iterable[dict[str, Any]]) -> None:
        with _turn(conditions.folder):
            send(**build())

    def build() -> dict[str, Any]:
        choices = Choices(task.call.name, choice.knobs if choice else {})
        if choice is None:
            with choosing(choices):
                rule, lowered = lower(task.call, conditions.target)
        else:
            rule, lowered = lower_by(choice.rule, task.call, conditions.target, choices)
        folder.mkdir(parents=True)
        kernels = {f"kernel{n}": launch.kernel for n, launch in enumerate(lowered.launches)}
        target = tvm.target.Target(conditions.target.tvm_config())
        with tempfile.TemporaryDirectory(dir=conditions.folder) as temporary:
            made = compile_kernels(kernels, target, Path(temporary), conditions.cache, processes=1)
            files = [*made.files, conditions.pool]
            tools = toolchain_for(conditions.target)
            tools.link_shared(folder / program.LIBRARY, files, made.symbols)
        growth = WINOGRAD_GROWTH if rule.name == "winograd" else 1
        allowed = ROUNDING * growth * (4 + _depth(task, choices.facts) ** 0.5)
        program.save(folder, lowered, list(kernels), task.call.roles, task.sizes, allowed)
        done = [operations(launch.kernel) for launch in lowered.launches]
        return {"rule": rule.name, "flops": None if None in done else sum(done)}

    return Process(work)


def built(process: Process) -> tuple[dict[str, Any] | None, TrialFailed | None]:
    """What the process of a build says, or why there is no program."""
    try:
        return process.answer(BUILD_SECONDS), None
    except TrialFailed as error:
        return None, error
    finally:
        process.close()


def _turn(folder: Path) -> AbstractContextManager[None]:
    """Wait for one of the CPUs: as many builds run at a time."""
    return locked(folder / f"turn{os.getpid() % (os.cpu_count() or 1)}")


def _depth(task: Task, facts: dict[str, dict[str, float]]) -> int:
    """Terms of the longest sum: what the rule says, or else all that a group reads."""
    said = [int(kernel["k"]) for kernel in facts.values() if "k" in kernel]
    shapes = [evaluated(argument.shape, task.sizes[-1]) for argument in task.call.arguments]
    return max(said or map(math.prod, shapes))
