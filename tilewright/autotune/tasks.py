"""Tasks: the distinct groups of a model that a rule takes, and what a trial of one needs.

Groups with equal specs are one task, whatever model they come from: their kernels are the same
but for the numbers in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax

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
    of the first.
    """

    name: str
    call: GroupCall
    times: int
    nodes: tuple[str, ...]

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
            known = found[key]
            found[key] = Task(known.name, known.call, known.times + 1, known.nodes)
        elif reason := _unfit(described, work.target):
            left[group.kernel] = reason
        else:
            nodes = tuple(group.nodes(work.origins))
            found[key] = Task(group.kernel, described, 1, nodes)
    return list(found.values()), left


def _calls(work: Work, kernels: dict) -> list[tuple[relax.Call, relax.Var]]:
    bindings = [b for block in work.mod["main"].body.blocks for b in block.bindings]
    return [
        (b.value, b.var)
        for b in bindings
        if isinstance(b.value, relax.Call) and getattr(b.value.op, "name_hint", None) in kernels
    ]


def _unfit(call: GroupCall, target: Target) -> str | None:
    if not able(call, target):
        return "no rule takes it"
    shapes = [call.result.shape, *(argument.shape for argument in call.arguments)]
    if not all(isinstance(size, int) for shape in shapes for size in shape):
        return "its sizes are open: --shape or --dim makes them static"
    return None


def inputs_of(task: Task, seed: int) -> list[np.ndarray]:
    """Values of the task's arguments: its weights, and random numbers for the others."""
    random = np.random.default_rng(seed)
    return [
        argument.array
        if argument.known
        else random.standard_normal(argument.shape).astype(argument.dtype)
        for argument in task.call.arguments
    ]
