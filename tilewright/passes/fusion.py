"""What a fusion is, and the engine that applies a list of them.

A fusion has a pattern, an `accept` that looks at a match and returns a Spec or a Decline, and
a name. Fusions are tried in the order of their list; within one, later values first; the
first match wins. What is fused becomes a private function that runs as one kernel or one group
of kernels. Safety is shared: a value that something outside the group reads is never swallowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

import tvm
from tvm import relax
from tvm.ir import Expr

from tilewright.passes.outline import outline
from tilewright.passes.pattern import Graph, Match, Pattern
from tilewright.passes.uses import readers_of

# Ways in which one pattern may match at one value before we stop looking.
MAX_WAYS = 64


class Spec(Protocol):
    """What a group computes (`tilewright.ops`): frozen, comparable, with JSON values."""

    def to_dict(self) -> dict:
        """All fields as JSON values."""


@dataclass(frozen=True)
class Decline:
    """Why an almost-match is no match: the reason, the value at fault, and what would mend it."""

    reason: str
    at: relax.Expr
    mend: str | None = None


@dataclass(frozen=True)
class Fusion:
    """A named pattern. `accept` gets a match whose inner values nobody else reads."""

    name: str
    pattern: Pattern
    accept: Callable[[Match, Graph], Spec | Decline]
    # How many values a match must cover: an activation of one operator alone is no group.
    at_least: int = 1


@dataclass(frozen=True)
class Group:
    """A match that was fused.

    `function` is its own name, `kernel` that of the function it shares with equal groups,
    `members` the values inside in order, `tensors` the types of the arguments and of the result,
    `roles` what the pattern calls each argument (None for one it has no name for).
    """

    fusion: str
    function: str
    kernel: str
    spec: Spec
    members: tuple[str, ...]
    tensors: tuple[relax.TensorType, ...]
    roles: tuple[str | None, ...]


@dataclass(frozen=True)
class NearMiss:
    """A match that was declined: where, why, and what would make it match.

    `root` is the last value of the match, `at` the one at fault, `taken_by` the fusion that has
    taken the root instead.
    """

    fusion: str
    root: str
    reason: str
    at: str
    mend: str | None
    taken_by: str | None = None


@dataclass
class FusionReport:
    """What was fused and what almost was."""

    groups: list[Group] = field(default_factory=list)
    near_misses: list[NearMiss] = field(default_factory=list)


@dataclass(frozen=True)
class _Chosen:
    fusion: Fusion
    match: Match
    spec: Spec
    root: relax.Var


def fuse(
    mod: tvm.IRModule, fusions: Sequence[Fusion], shown: Callable[[str], str] = str
) -> tuple[tvm.IRModule, FusionReport]:
    """Apply `fusions` in order to `main`; reasons call a variable what `shown` makes of it."""
    main = mod["main"]
    graph = Graph(main)
    readers = readers_of(main)
    order = [b.var for block in main.body.blocks for b in block.bindings]
    taken: set[relax.Var] = set()
    report = FusionReport()
    chosen: list[_Chosen] = []
    for fusion in fusions:
        for root in reversed(order):
            if root in taken:
                continue
            found = _first_match(fusion, root, graph, readers, taken, shown)
            if isinstance(found, _Chosen):
                chosen.append(found)
                taken |= set(found.match.covered)
            elif found is not None:
                report.near_misses.append(found)
    takers: dict[str, str] = {}
    places = {var: n for n, var in enumerate(order)}
    chosen.sort(key=lambda c: places[c.root])
    for number, choice in enumerate(chosen):
        name = f"{choice.fusion.name}_{number}"
        members = sorted(choice.match.covered, key=places.__getitem__)
        mod, kernel, arguments = outline(mod, name, members, choice.spec.to_dict())
        names = tuple(var.name for var in members)
        tensors = tuple(t.ty for t in (*arguments, choice.root))
        roles = tuple(_role(argument, choice.match, graph) for argument in arguments)
        report.groups.append(
            Group(choice.fusion.name, name, kernel, choice.spec, names, tensors, roles)
        )
        takers |= dict.fromkeys(names, choice.fusion.name)
    report.near_misses = [replace(m, taken_by=takers.get(m.root)) for m in report.near_misses]
    return relax.transform.Normalize()(mod), report


def _first_match(
    fusion: Fusion,
    root: relax.Var,
    graph: Graph,
    readers: dict[relax.Var, set],
    taken: set[relax.Var],
    shown: Callable[[str], str],
) -> _Chosen | NearMiss | None:
    miss = None
    for match in islice(fusion.pattern.match(root, graph), MAX_WAYS):
        covered = set(match.covered)
        if root not in covered or covered & taken or len(covered) < fusion.at_least:
            continue
        verdict = _leak(match, root, readers, shown) or fusion.accept(match, graph)
        if not isinstance(verdict, Decline):
            return _Chosen(fusion, match, verdict, root)
        at = verdict.at.name if isinstance(verdict.at, relax.Var) else root.name
        miss = miss or NearMiss(fusion.name, root.name, verdict.reason, at, verdict.mend)
    return miss


def _leak(
    match: Match, root: relax.Var, readers: dict[relax.Var, set], shown: Callable[[str], str]
) -> Decline | None:
    covered = set(match.covered)
    for var in match.covered:
        if var.same_as(root):
            continue
        if outside := readers[var] - covered:
            reader = min(
                shown(reader.name) if isinstance(reader, relax.Var) else "the model's outputs"
                for reader in outside
            )
            return Decline(
                f"{shown(var.name)} has a second reader, {reader}",
                at=var,
                mend="compute it twice, or read the fused result instead",
            )
    return None


def _role(argument: relax.Expr, match: Match, graph: Graph) -> str | None:
    """The name under which the pattern found `argument`."""
    same = (n for n, v in match.values.items() if isinstance(v, Expr) and _is(v, argument, graph))
    return next(same, None)


def _is(value: Expr, argument: relax.Expr, graph: Graph) -> bool:
    return value.same_as(argument) or graph.bound(value)[1].same_as(argument)
