"""A group of kernels as a program of its own, in a folder that can be sent to another machine.

    task/argument<n>.npy          a weight, the same for every choice
    task/argument<n>_<size>.npy   another argument, at each of the sizes that are measured
    choice/program.so             the kernels and the pool of threads
    choice/packed<n>.npy          weights as the choice packs them
    choice/program.json           which kernel is called with what

The kernels are called one after the other, without TVM's VM around them.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from tilewright.analysis.sizes import Sizes, evaluated
from tilewright.compiler import pool
from tilewright.passes.channels_last import to_last, to_second
from tilewright.targets.rules.rule import Given, Lowered

# Calls before any is timed: the workers start, and pages come in.
WARM_UP = 2

LIBRARY = "program.so"
_CALLS = "program.json"


def save(
    folder: Path,
    lowered: Lowered,
    kernels: Sequence[str],
    roles: Mapping[str, int],
    sizes: Sequence[Sizes],
    growth: float,
) -> None:
    """Write what belongs to the library in `folder`.

    `kernels` are the names of the launches' kernels there, `roles` the numbers of the group's
    arguments, `sizes` what it is measured at, `growth` how far rounding may move the result, in
    units in the last place of its scale.
    """
    packed = 0
    calls = []
    for name, launch in zip(kernels, lowered.launches, strict=True):
        inputs: list[dict[str, Any]] = []
        for source in launch.inputs:
            if isinstance(source, int):
                inputs.append({"made": source})
            elif isinstance(source, Given):
                last = source.channels_last
                inputs.append({"given": roles[source.role], "channels_last": last})
            else:
                file = f"packed{packed}.npy"
                np.save(folder / file, np.ascontiguousarray(source.make()))
                inputs.append({"file": file})
                packed += 1
        shapes = (launch.shape, *launch.also)
        results = [[evaluated(shape, one) for shape in shapes] for one in sizes]
        calls.append({"kernel": name, "inputs": inputs, "results": results, "dtype": launch.dtype})
    said = {"calls": calls, "channels_last": lowered.channels_last, "growth": growth}
    (folder / _CALLS).write_text(json.dumps({**said, "sizes": len(sizes)}))


class Program:
    """The program in `folder`, loaded, with the arguments of the folder `task` in place."""

    def __init__(self, folder: Path, task: Path, threads: int) -> None:
        said = json.loads((folder / _CALLS).read_text())
        library = str(folder / LIBRARY)
        module = tvm.runtime.load_module(library)
        pool.join(ctypes.CDLL(library))(threads)
        self.growth: float = said["growth"]
        self._channels_last: bool = said["channels_last"]
        packed = {file.name: tvm.runtime.tensor(np.load(file)) for file in folder.glob("*.npy")}
        # For each size: the calls, and the result of the last one.
        self._calls: list[list[tuple[Any, tuple[Any, ...]]]] = []
        self._results: list[Any] = []
        for size in range(said["sizes"]):
            calls, made = [], []
            for call in said["calls"]:
                inputs = [
                    made[row["made"]]
                    if "made" in row
                    else packed[row["file"]]
                    if "file" in row
                    else _argument(task, size, row)
                    for row in call["inputs"]
                ]
                # NaN shows what a kernel leaves unwritten.
                empty = [np.full(shape, np.nan, call["dtype"]) for shape in call["results"][size]]
                results = [tvm.runtime.tensor(values) for values in empty]
                calls.append((module[call["kernel"]], (*inputs, *results)))
                made += results
            self._calls.append(calls)
            self._results.append(made[-1])

    def results(self) -> list[np.ndarray]:
        """The group's result at each size, in the usual order of its axes."""
        for calls in self._calls:
            _run(calls)
        found = [result.numpy() for result in self._results]
        if not self._channels_last:
            return found
        return [values.transpose(to_second(values.ndim)) for values in found]

    def times(self, seconds: float) -> list[float]:
        """Seconds of each run, for about `seconds`; of several sizes, their geometric mean.

        Warm: data is where the last run left it.
        """
        for calls in self._calls * WARM_UP:
            _run(calls)
        found: list[float] = []
        begin = time.perf_counter()
        while not found or time.perf_counter() - begin < seconds:
            product = 1.0
            for calls in self._calls:
                start = time.perf_counter()
                _run(calls)
                product *= time.perf_counter() - start
            found.append(product ** (1 / len(self._calls)))
        return found


def _run(calls: list[tuple[Any, tuple[Any, ...]]]) -> None:
    for function, values in calls:
        function(*values)


def save_arguments(task: Path, arguments: Sequence[Sequence[np.ndarray]]) -> None:
    """Write a task's arguments, given for each size, into the folder `task`."""
    for number, values in enumerate(zip(*arguments, strict=True)):
        if all(value is values[0] for value in values):
            np.save(_file(task, number), values[0])
        else:
            for size, value in enumerate(values):
                np.save(_file(task, number, size), value)


def _argument(task: Path, size: int, row: dict[str, Any]) -> Any:
    shared = _file(task, row["given"])
    values = np.load(shared if shared.exists() else _file(task, row["given"], size))
    if row["channels_last"]:
        values = values.transpose(to_last(values.ndim))
    return tvm.runtime.tensor(np.ascontiguousarray(values))


def _file(task: Path, number: int, size: int | None = None) -> Path:
    return task / (f"argument{number}.npy" if size is None else f"argument{number}_{size}.npy")
