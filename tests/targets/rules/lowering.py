"""Run what a rule makes of a group, and compare with float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tvm

from tilewright.ops import Spec
from tilewright.ops.spec import Shape
from tilewright.passes.channels_last import to_last, to_second
from tilewright.targets.catalog import CATALOG
from tilewright.targets.rules.catalogue import lower
from tilewright.targets.rules.registers import PIPELINE
from tilewright.targets.rules.rule import Argument, Given, GroupCall, Launch, Packed
from tilewright.targets.target import Target

AVX2 = next(target for target in CATALOG if target.name == "x86-64-avx2")


def group(spec: Spec, shape: Shape, **arrays: np.ndarray) -> GroupCall:
    """A group whose arguments are `arrays` by role: those of rank > 0 that no x is are weights."""
    given = ("x", "residual", "late_residual")
    arguments = tuple(
        Argument(a.shape, str(a.dtype), None if role.rpartition("_")[2] in given else a)
        for role, a in arrays.items()
    )
    roles = {role: place for place, role in enumerate(arrays)}
    return GroupCall("group", spec, arguments, roles, Argument(shape, "float32"))


def run(
    spec: Spec, shape: tuple[int, ...], target=AVX2, **arrays: np.ndarray
) -> tuple[str, np.ndarray]:
    """The name of the rule that takes the group, and its result in the usual order."""
    return run_group(group(spec, shape, **arrays), arrays, target)


def run_group(
    call: GroupCall, arrays: Mapping[str, np.ndarray], target: Target = AVX2
) -> tuple[str, np.ndarray]:
    """As `run`, for a group that is there: `arrays` are its arguments by role."""
    found = lower(call, target)
    assert not isinstance(found, dict), found
    rule, lowered = found
    result = launched(lowered.launches, arrays, target)
    return rule.name, result.transpose(to_second(result.ndim)) if lowered.channels_last else result


def run_open(
    spec: Spec, shape: Shape, each: Sequence[Mapping[str, np.ndarray]], target: Target = AVX2
) -> tuple[str, list[np.ndarray]]:
    """As `run`, for a spec whose batch is open: one compilation, a result for each of `each`."""
    found = lower(group(spec, shape, **each[0]), target)
    assert not isinstance(found, dict), found
    rule, lowered = found
    results = launched_open(lowered.launches, each, target)
    if lowered.channels_last:
        results = [result.transpose(to_second(result.ndim)) for result in results]
    return rule.name, results


def launched(
    launches: Sequence[Launch], arrays: Mapping[str, np.ndarray], target: Target = AVX2
) -> np.ndarray:
    """What the last of the launches makes; `arrays` are the group's arguments by role."""
    return launched_open(launches, [arrays], target)[0]


def launched_open(
    launches: Sequence[Launch], each: Sequence[Mapping[str, np.ndarray]], target: Target = AVX2
) -> list[np.ndarray]:
    """As `launched`, for each of `each`: one compilation."""
    built = [_built(launch, target) for launch in launches]
    return [_called(launches, built, arrays) for arrays in each]


def _built(launch: Launch, target: Target) -> tvm.ffi.Function:
    module = tvm.IRModule({"main": launch.kernel.with_attr("global_symbol", "main")})
    return tvm.tirx.build(module, tvm.target.Target(target.tvm_config()), pipeline=PIPELINE)["main"]


def _called(
    launches: Sequence[Launch], built: Sequence[Callable], arrays: Mapping[str, np.ndarray]
) -> np.ndarray:
    """The last result; an open size is a batch, the first size of what is given."""
    batch = next(iter(arrays.values())).shape[0]
    made: list[tvm.runtime.Tensor] = []
    for launch, kernel in zip(launches, built, strict=True):
        inputs = []
        for source in launch.inputs:
            if isinstance(source, Given):
                value = arrays[source.role]
                if source.channels_last:
                    value = value.transpose(to_last(value.ndim))
                inputs.append(tvm.runtime.tensor(np.ascontiguousarray(value)))
            elif isinstance(source, Packed):
                values = np.ascontiguousarray(source.make())
                assert values.shape == source.shape
                inputs.append(tvm.runtime.tensor(values))
            else:
                inputs.append(made[source])
        # NaN shows what a kernel leaves unwritten.
        shapes = [
            tuple(size if isinstance(size, int) else batch for size in shape)
            for shape in (launch.shape, *launch.also)
        ]
        outs = [tvm.runtime.tensor(np.full(shape, np.nan, "float32")) for shape in shapes]
        kernel(*inputs, *outs)
        made += outs
    return made[-1].numpy()


def close(ours: np.ndarray, exact: np.ndarray, terms: int) -> None:
    """Assert that float32 sums of `terms` products are as near as they can be expected.

    Partial sums of products of normal numbers are as large as the root of their number, also
    where a clip has made the result smaller.
    """
    assert ours.shape == exact.shape
    scale = max(terms**0.5, float(np.abs(exact).max()))
    np.testing.assert_allclose(ours, exact, rtol=0, atol=scale * (4 + terms**0.5) * 2.0**-23)
