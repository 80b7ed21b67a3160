"""Tasks: the distinct groups of a model that a rule takes, and what a trial of one needs.

Groups with equal specs are one task, whatever model they come from: their kernels are the same
but for the numbers in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from tilewright.analysis.sizes import Sizes, evaluated, representatives
from tilewright.compiler.lower import argument_of
from tilewright.compiler.pipeline import Work
from tilewright.ops import Spec
from tilewright.options import SPENDS_ERROR_BUDGET
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import able
from tilewright.targets.rules.rule import GroupCall


@dataclass(frozen=True)
class Task:
    """A group to be tuned.

    `call` is one of the groups with this spec, `times` how many there are, `nodes` the ONNX nodes
    of the first. `sizes` are what it is measured at: values of its open dimensions.
    """

    name: str
    call: GroupCall
    times: int
    nodes: tuple[str, ...]
    sizes: tuple[Sizes, ...] = ({},)

    @property
    def spec(self) -> Spec:
        """What is computed."""
        return self.call.spec

    @property
    def key(self) -> str:
        """What records know it by."""
        return self.spec.key()


def tasks_of(work: Work) -> tuple[list[Task], dict[str, str]]:
    """The tasks of a model whose groups are found; and why the other groups are none, by name."""
    exact = work.options.opt_level < SPENDS_ERROR_BUDGET
    kernels = {group.kernel: group for group in reversed(work.fusions.groups)}
    sizes = representatives(work.bounds)
    found: dict[str, Task] = {}
    left: dict[str, str] = {}
    for call, var in _calls(work, kernels):
        group = kernels[call.op.name_hint]
        described = GroupCall(
            group.kernel,
            group.spec,
            tuple(map(argument_of, call.args)),
            group.roles,
            argument_of(var),
            exact,
        )
        key = group.spec.key()
        if key in found:
            found[key] = replace(found[key], times=found[key].times + 1)
        elif reason := _unfit(described, work.target, sizes):
            left[group.kernel] = reason
        else:
            nodes = tuple(group.nodes(work.origins))
            found[key] = Task(group.kernel, described, 1, nodes, sizes)
    return list(found.values()), left


def _calls(work: Work, kernels: dict) -> list[tuple[relax.Call, relax.Var]]:
    bindings = [b for block in work.mod["main"].body.blocks for b in block.bindings]
    return [
        (b.value, b.var)
        for b in bindings
        if isinstance(b.value, relax.Call) and getattr(b.value.op, "name_hint", None) in kernels
    ]


def _unfit(call: GroupCall, target: Target, sizes: tuple[Sizes, ...]) -> str | None:
    if not able(call, target):
        return "no rule takes it"
    try:
        for argument in (call.result, *call.arguments):
            evaluated(argument.shape, sizes[0])
    except ValueError as error:
        return f"{error}: --shape or --dim makes it so"
    if not all(argument.dtype for argument in call.arguments):
        return "it takes sizes that no tensor of its own has"
    return None


def inputs_of(task: Task, seed: int) -> list[list[np.ndarray]]:
    """For each of the task's sizes, its arguments: weights, and random numbers for the others."""
    random = np.random.default_rng(seed)
    return [
        [
            argument.array
            if argument.known
            else random.standard_normal(evaluated(argument.shape, sizes)).astype(argument.dtype)
            for argument in task.call.arguments
        ]
        for sizes in task.sizes
    ]
