"""Run what a rule makes of a group, and compare with float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tvm

from tilewright.ops import Spec
from tilewright.passes.channels_last import to_last, to_second
from tilewright.targets.catalog import CATALOG
from tilewright.targets.rules.catalogue import lower
from tilewright.targets.rules.registers import PIPELINE
from tilewright.targets.rules.rule import Argument, Given, GroupCall, Launch
from tilewright.targets.target import Target

AVX2 = next(target for target in CATALOG if target.name == "x86-64-avx2")


def group(spec: Spec, shape: tuple[int, ...], **arrays: np.ndarray) -> GroupCall:
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


def launched(
    launches: Sequence[Launch], arrays: Mapping[str, np.ndarray], target: Target = AVX2
) -> np.ndarray:
    """What the last of the launches makes; `arrays` are the group's arguments by role."""
    made: list[tvm.runtime.Tensor] = []
    for launch in launches:
        inputs = []
        for source in launch.inputs:
            if isinstance(source, Given):
                value = arrays[source.role]
                if source.channels_last:
                    value = value.transpose(to_last(value.ndim))
                inputs.append(tvm.runtime.tensor(np.ascontiguousarray(value)))
            elif isinstance(source, np.ndarray):
                inputs.append(tvm.runtime.tensor(source))
            else:
                inputs.append(made[source])
        # NaN shows what a kernel leaves unwritten.
        shapes = (launch.shape, *launch.also)
        outs = [tvm.runtime.tensor(np.full(shape, np.nan, "float32")) for shape in shapes]
        module = tvm.IRModule({"main": launch.kernel.with_attr("global_symbol", "main")})
        config = tvm.target.Target(target.tvm_config())
        tvm.tirx.build(module, config, pipeline=PIPELINE)["main"](*inputs, *outs)
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
