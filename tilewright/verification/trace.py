"""Every kernel call of one run: what it made, and which calls and inputs that came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilewright.compiler.runtime import Module


@dataclass(frozen=True)
class Call:
    """One kernel call: its `results` as they were right after it.

    `calls` are the numbers of the calls whose results it read, `inputs` the inputs of the model;
    weights are neither.
    """

    number: int
    kernel: str
    results: tuple[np.ndarray, ...]
    calls: tuple[int, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """The calls of a run in order, its outputs by name, and which call made each output.

    An output that no call made, because it is an input or a weight, has no number.
    """

    calls: tuple[Call, ...]
    outputs: Mapping[str, np.ndarray]
    makers: Mapping[str, int]


def trace(module: Module, inputs: Mapping[str, np.ndarray]) -> Trace:
    """Run `module` once on `inputs` and note every kernel call.

    `module` is watched from here on.
    """
    watcher = _Watcher(module, inputs)
    module.watch(watcher)
    result = module(dict(inputs))
    arrays = result if isinstance(result, tuple) else (result,)
    names = [spec.name for spec in module.outputs]
    outputs = dict(zip(names, arrays, strict=True))
    makers = {name: watcher.maker_of(array) for name, array in outputs.items()}
    known = {name: number for name, number in makers.items() if number is not None}
    return Trace(tuple(watcher.made), outputs, known)


class _Watcher:
    """What a watched module calls around its kernels.

    Who made a value is known by its address: memory is used again, by a later call.
    """

    def __init__(self, module: Module, inputs: Mapping[str, np.ndarray]) -> None:
        self._kernels = {row["name"] for row in module.manifest["kernels"]}
        self._weights = module.weight_addresses
        self._inputs = inputs
        self._before: list[np.ndarray] = []
        self._makers: dict[int, int] = {}
        self.made: list[Call] = []

    def __call__(
        self, _function: Any, name: str, before: bool, _result: Any, *arguments: Any
    ) -> None:
        if name not in self._kernels:
            return
        arrays = [np.from_dlpack(a) for a in arguments if hasattr(a, "__dlpack__")]
        arrays = [a for a in arrays if a.ctypes.data not in self._weights]
        if before:
            self._before = [a.copy() for a in arrays]
            return
        # The result is the last argument; what else has changed are further ones.
        last = len(arrays) - 1
        written = [
            place
            for place, (old, new) in enumerate(zip(self._before, arrays, strict=True))
            if place == last or old.tobytes() != new.tobytes()
        ]
        read = [a for place, a in enumerate(arrays) if place not in written]
        number = len(self.made)
        makers = [self._makers.get(a.ctypes.data) for a in read]
        self.made.append(
            Call(
                number,
                name,
                tuple(arrays[place].copy() for place in written),
                tuple(dict.fromkeys(m for m in makers if m is not None)),
                tuple(
                    dict.fromkeys(
                        input_name
                        for array, maker in zip(read, makers, strict=True)
                        if maker is None
                        for input_name, given in self._inputs.items()
                        if given.size == array.size and given.tobytes() == array.tobytes()
                    )
                ),
            )
        )
        self._makers.update((arrays[place].ctypes.data, number) for place in written)

    def maker_of(self, output: np.ndarray) -> int | None:
        """The last call that made what is in `output`; a copy or a view of it is in it too."""
        known = self._makers.get(output.ctypes.data)
        if known is not None:
            return known
        content = output.tobytes()
        for call in reversed(self.made):
            if any(result.tobytes() == content for result in call.results):
                return call.number
        return None
