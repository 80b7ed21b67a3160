"""Run what a rule lowers a group to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tvm

from tests.targets.rules.machine_code import built
from tilewright.ops import Spec
from tilewright.ops.spec import Shape
from tilewright.targets import resolve
from tilewright.targets.rules.rule import Argument, Given, GroupCall, Rule


def call_of(
    spec: Spec, arrays: Mapping[str, np.ndarray], result: Shape, constants: tuple[str, ...] = ()
) -> GroupCall:
    """A group whose arguments are `arrays`, by role; those in `constants` are known to the rule."""
    arguments = tuple(
        Argument(a.shape, str(a.dtype), a if role in constants else None)
        for role, a in arrays.items()
    )
    roles = {role: place for place, role in enumerate(arrays)}
    return GroupCall("group", spec, arguments, roles, Argument(result, "float32"))


def run(
    rule: Rule, call: GroupCall, arrays: Mapping[str, np.ndarray], target: str = "native"
) -> np.ndarray:
    """The group's result, in the usual order of axes, from kernels built for `target`."""
    assert rule.refuses(call, resolve(target)) is None
    lowered = rule.lower(call, resolve(target))
    made: list[np.ndarray] = []
    for launch in lowered.launches:
        inputs = [_value(source, arrays, made) for source in launch.inputs]
        y = tvm.runtime.tensor(np.full(launch.shape, np.nan, launch.dtype))
        built(launch.kernel, target)["main"](*map(tvm.runtime.tensor, inputs), y)
        made.append(y.numpy())
    return np.moveaxis(made[-1], -1, 1) if lowered.channels_last else made[-1]


def _value(
    source: Given | np.ndarray | int, arrays: Mapping[str, np.ndarray], made: list[np.ndarray]
) -> np.ndarray:
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, int):
        return made[source]
    x = arrays[source.role]
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if source.channels_last else x
