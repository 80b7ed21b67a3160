"""A group as a program of its own: what a trial compiles, checks and times.

The kernels are those that `tilewright compile` would make with the same choice, from the same
cache, on the same threads; they are called one after the other, without TVM's VM around them.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm

from tilewright.autotune.tasks import Task
from tilewright.compiler import pool
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.compiler.kernels import compile_kernels
from tilewright.passes.channels_last import to_last, to_second
from tilewright.targets import Target, toolchain
from tilewright.targets.rules.rule import Given, Lowered

# Calls before any is timed: the workers start, and pages come in.
WARM_UP = 2


@dataclass(frozen=True)
class Conditions:
    """What all trials of a session share.

    `pool` is the object file of the threads, `folder` is for temporary files, and `seed` draws the
    arguments.
    """

    target: Target
    threads: int
    pool: Path
    cache: KernelCache | None
    folder: Path
    seed: int


class Program:
    """A lowered group, compiled into `folder` and loaded, with its arguments in place."""

    def __init__(
        self,
        task: Task,
        lowered: Lowered,
        arguments: Sequence[np.ndarray],
        conditions: Conditions,
        folder: Path,
    ) -> None:
        self._lowered = lowered
        kernels = {f"kernel{n}": launch.kernel for n, launch in enumerate(lowered.launches)}
        target = tvm.target.Target(conditions.target.tvm_config())
        objects = compile_kernels(kernels, target, folder, conditions.cache, processes=1)
        library = folder / "program.so"
        files = [*objects.files, conditions.pool]
        toolchain.link_shared(library, files, objects.symbols)
        module = tvm.runtime.load_module(str(library))
        pool.join(ctypes.CDLL(str(library)))(conditions.threads)
        self._calls = []
        made: list[tvm.runtime.Tensor] = []
        for name, launch in zip(kernels, lowered.launches, strict=True):
            inputs = [_input(source, task, arguments, made) for source in launch.inputs]
            results = [_empty(shape, launch.dtype) for shape in (launch.shape, *launch.also)]
            self._calls.append((module[name], (*inputs, *results)))
            made += results
        self._result = made[-1]

    def run(self) -> None:
        """Call the kernels once."""
        for function, values in self._calls:
            function(*values)

    def result(self) -> np.ndarray:
        """The group's result after a run, in the usual order of its axes."""
        self.run()
        values = self._result.numpy()
        return values.transpose(to_second(values.ndim)) if self._lowered.channels_last else values

    def times(self, seconds: float) -> list[float]:
        """Seconds of each run, for about `seconds`; warm: data is where the last run left it."""
        for _ in range(WARM_UP):
            self.run()
        found: list[float] = []
        begin = time.perf_counter()
        while not found or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            self.run()
            found.append(time.perf_counter() - start)
        return found


def _input(
    source: Given | np.ndarray | int,
    task: Task,
    arguments: Sequence[np.ndarray],
    made: Sequence[tvm.runtime.Tensor],
) -> tvm.runtime.Tensor:
    if isinstance(source, int):
        return made[source]
    if isinstance(source, Given):
        values = arguments[task.call.roles[source.role]]
        if source.channels_last:
            values = values.transpose(to_last(values.ndim))
    else:
        values = source
    return tvm.runtime.tensor(np.ascontiguousarray(values))


def _empty(shape: Sequence[int], dtype: str) -> tvm.runtime.Tensor:
    # NaN shows what a kernel leaves unwritten.
    return tvm.runtime.tensor(np.full(shape, np.nan, dtype))
