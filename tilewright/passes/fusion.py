"""What a fusion is, and the engine that applies a list of them.

A fusion has a pattern, an `accept` that looks at a match and returns a Spec or a Decline, and
a name. Fusions are tried in the order of their list; within one, later values first; the
first match wins. What is fused becomes a private function that runs as one kernel or one group
of kernels. Safety is shared: a value that something outside the group reads is never swallowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import tvm
from tvm import relax

from tilewright.ops.spec import Shape
from tilewright.passes.outline import outline
from tilewright.passes.pattern import Graph, Match, Pattern
from tilewright.passes.shapes import shape_of
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
    `members` the values inside in order, `tensors` shape and dtype of each argument and result.
    """

    fusion: str
    function: str
    kernel: str
    spec: Spec
    members: tuple[str, ...]
    tensors: tuple[tuple[Shape, str], ...]


@dataclass(frozen=True)
class NearMiss:
    """A match that was declined: where, why, and what would make it match."""

    fusion: str
    root: str
    reason: str
    at: str
    mend: str | None


@dataclass
class FusionReport:
    """What was fused and what almost was."""

    groups: list[Group] = field(default_factory=list)
    near_misses: list[NearMiss] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """A match that its fusion accepted: `root` is its last value."""

    fusion: Fusion
    match: Match
    spec: Spec
    root: relax.Var


def fuse(mod: tvm.IRModule, fusions: Sequence[Fusion]) -> tuple[tvm.IRModule, FusionReport]:
    """Apply `fusions` in order to `main`."""
    chosen, misses = choose(mod["main"], fusions)
    report = FusionReport()
    missed = {miss.root for miss in misses}
    places = {var: n for n, var in enumerate(_variables(mod["main"]))}
    for number, choice in enumerate(chosen):
        name = f"{choice.fusion.name}_{number}"
        members = sorted(choice.match.covered, key=places.__getitem__)
        mod, kernel, arguments = outline(mod, name, members, choice.spec.to_dict())
        names = tuple(var.name for var in members)
        tensors = tuple((shape_of(t) or (), str(t.ty.dtype)) for t in (*arguments, choice.root))
        report.groups.append(Group(choice.fusion.name, name, kernel, choice.spec, names, tensors))
        missed -= set(names)
    # A value that one fusion declined and a later one took is no miss.
    report.near_misses = [miss for miss in misses if miss.root in missed]
    return relax.transform.Normalize()(mod), report


def choose(main: relax.Function, fusions: Sequence[Fusion]) -> tuple[list[Choice], list[NearMiss]]:
    """What `fusions` take of `main`, in its order, and what they declined."""
    graph = Graph(main)
    readers = readers_of(main)
    order = _variables(main)
    taken: set[relax.Var] = set()
    chosen: list[Choice] = []
    misses: list[NearMiss] = []
    for fusion in fusions:
        for root in reversed(order):
            if root in taken:
                continue
            found = _first_match(fusion, root, graph, readers, taken)
            if isinstance(found, Choice):
                chosen.append(found)
                taken |= set(found.match.covered)
            elif found is not None:
                misses.append(found)
    places = {var: n for n, var in enumerate(order)}
    return sorted(chosen, key=lambda choice: places[choice.root]), misses


def _variables(main: relax.Function) -> list[relax.Var]:
    return [binding.var for block in main.body.blocks for binding in block.bindings]


def _first_match(
    fusion: Fusion,
    root: relax.Var,
    graph: Graph,
    readers: dict[relax.Var, set],
    taken: set[relax.Var],
) -> Choice | NearMiss | None:
    miss = None
    for match in islice(fusion.pattern.match(root, graph), MAX_WAYS):
        covered = set(match.covered)
        if root not in covered or covered & taken or len(covered) < fusion.at_least:
            continue
        verdict = _leak(match, root, readers) or fusion.accept(match, graph)
        if not isinstance(verdict, Decline):
            return Choice(fusion, match, verdict, root)
        at = verdict.at.name if isinstance(verdict.at, relax.Var) else root.name
        miss = miss or NearMiss(fusion.name, root.name, verdict.reason, at, verdict.mend)
    return miss


def _leak(match: Match, root: relax.Var, readers: dict[relax.Var, set]) -> Decline | None:
    covered = set(match.covered)
    for var in match.covered:
        if var.same_as(root):
            continue
        if outside := readers[var] - covered:
            shown = min(
                reader.name if isinstance(reader, relax.Var) else "the model's outputs"
                for reader in outside
            )
            return Decline(
                f"{var.name} has a second reader, {shown}",
                at=var,
                mend="compute it twice, or read the fused result instead",
            )
    return None
