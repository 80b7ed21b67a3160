"""What a fusion is, and the engine that applies a list of them.

A fusion has a pattern, an `accept` that looks at a match and returns a Spec or a Decline, and
a name. Fusions are tried in the order of their list; within one, later values first; the
first match wins. What is fused becomes a private function that runs as one kernel or one group
of kernels. Safety is shared: a value that something outside the group reads is never swallowed,
and what a group takes and gives are tensors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

import tvm
from tvm import relax
from tvm.ir import Expr

from tilewright.errors import OptionError
from tilewright.passes.blame import blaming, checked
from tilewright.passes.graphs import graphs
from tilewright.passes.outline import outline
from tilewright.passes.pattern import Graph, Match, Pattern
from tilewright.passes.uses import readers_of

# Name of a variable -> the ONNX nodes it comes from.
Origins = Mapping[str, tuple[str, ...]]

# Ways in which one pattern may match at one value before we stop looking.
MAX_WAYS = 64
_OPERANDS = ("bias", "b1", "b2", "b3", "weight", "layer_scale")


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
    # False where this was not even near: whatever else is wrong, a report should not mention it.
    near: bool = True


@dataclass(frozen=True)
class Fusion:
    """A named pattern; `accept` says what a match is. One whose inner values others read is none.

    Raises OptionError when a field is of the wrong kind, or `name` is not a name in lower case.
    """

    name: str
    pattern: Pattern
    accept: Callable[[Match, Graph], Spec | Decline]
    # How many values a match must cover: an activation of one operator alone is no group.
    at_least: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch("[a-z][a-z0-9_]*", self.name):
            raise OptionError(
                f"a fusion cannot be called {self.name!r}",
                expected="lower-case letters, digits and _, such as 'soft_cap': it names kernels",
            )
        for field_name, fits, wanted in (
            ("pattern", isinstance(self.pattern, Pattern), "a pattern, such as Op('relax.tanh')"),
            ("accept", callable(self.accept), "a function (match, graph) -> Spec or Decline"),
            ("at_least", isinstance(self.at_least, int) and self.at_least > 0, "1 or more"),
        ):
            if not fits:
                raise OptionError(
                    f"fusion {self.name!r}: {field_name} is {getattr(self, field_name)!r}",
                    expected=wanted,
                )


@dataclass(frozen=True)
class Group:
    """A match that was fused.

    `function` is its own name, `kernel` that of the function it shares with equal groups,
    `members` the values inside in order, `tensors` the types of the arguments and of the result,
    `roles` which argument each name of the pattern stands for.
    """

    fusion: str
    function: str
    kernel: str
    spec: Spec
    members: tuple[str, ...]
    tensors: tuple[relax.TensorType, ...]
    roles: dict[str, int]

    def nodes(self, origins: Origins) -> list[str]:
        """The ONNX nodes inside, each once."""
        return list(dict.fromkeys(n for name in self.members for n in origins.get(name, ())))


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
class Choice:
    """A match that its fusion accepted: `root` is its last value."""

    fusion: Fusion
    match: Match
    spec: Spec
    root: relax.Var


def check_list(fusions: Sequence[Fusion], reserved: Sequence[str]) -> None:
    """Raise OptionError unless all are fusions, with names of their own, none of them `reserved`.

    Names choose fusions (--disable, --only), and tell groups and near misses apart.
    """
    if not isinstance(fusions, Sequence):
        raise OptionError(f"fusions is {fusions!r:.200}", expected="a list or a tuple of Fusions")
    names: set[str] = set()
    for place, fusion in enumerate(fusions, start=1):
        if not isinstance(fusion, Fusion):
            raise OptionError(
                f"entry {place} of fusions is {fusion!r:.200}",
                expected="a Fusion",
                hint="a list inside the list takes a star: (*DEFAULT_FUSIONS, MINE)"
                if isinstance(fusion, Sequence)
                else None,
            )
        if fusion.name in names:
            raise OptionError(
                f"two fusions are called {fusion.name!r}",
                where=f"entry {place} of fusions is the second",
                expected="a name of its own for each",
            )
        if fusion.name in reserved:
            raise OptionError(
                f"a fusion is called {fusion.name!r}, as is an optional step",
                where=f"entry {place} of fusions",
                expected=f"another name than: {', '.join(reserved)}",
            )
        names.add(fusion.name)


def fuse(
    mod: tvm.IRModule, fusions: Sequence[Fusion], origins: Origins | None = None
) -> tuple[tvm.IRModule, FusionReport]:
    """Apply `fusions` in order to each graph; `origins` names the ONNX nodes of its variables.

    Raises FusionError when a fusion that a user wrote fails or gives no answer.
    """
    report = FusionReport()
    for graph in graphs(mod):
        mod = _fuse(mod, graph, fusions, origins, report)
    return relax.transform.Normalize()(mod), report


def _fuse(
    mod: tvm.IRModule,
    name: str,
    fusions: Sequence[Fusion],
    origins: Origins | None,
    report: FusionReport,
) -> tvm.IRModule:
    """`mod` with groups in the graph `name`; the report tells of them too."""
    graph = Graph(mod[name])
    chosen, misses = choose(mod[name], fusions, origins)
    takers: dict[str, str] = {}
    places = {var: n for n, var in enumerate(_variables(mod[name]))}
    for number, choice in enumerate(chosen, start=len(report.groups)):
        function = f"{choice.fusion.name}_{number}"
        members = sorted(choice.match.covered, key=places.__getitem__)
        spec, operands = choice.spec.to_dict(), _operands(choice.match)
        mod, kernel, arguments = outline(mod, name, function, members, spec, operands)
        inside = tuple(var.name for var in members)
        tensors = tuple(t.ty for t in (*arguments, choice.root))
        roles = _roles(arguments, choice.match, graph)
        report.groups.append(
            Group(choice.fusion.name, function, kernel, choice.spec, inside, tensors, roles)
        )
        takers |= dict.fromkeys(inside, choice.fusion.name)
    report.near_misses += [replace(m, taken_by=takers.get(m.root)) for m in misses]
    return mod


def choose(
    main: relax.Function, fusions: Sequence[Fusion], origins: Origins | None = None
) -> tuple[list[Choice], list[NearMiss]]:
    """What `fusions` take of `main`, in its order, and what they declined."""
    names = {name: ", ".join(nodes) for name, nodes in (origins or {}).items()}
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
            with blaming(fusion, root.name, names):
                found = _first_match(fusion, root, graph, readers, taken, names)
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
    names: Mapping[str, str],
) -> Choice | NearMiss | None:
    miss, near = None, True
    for match in islice(fusion.pattern.match(root, graph), MAX_WAYS):
        covered = set(match.covered)
        if root not in covered or covered & taken or len(covered) < fusion.at_least:
            continue
        unsafe = _unfit(match, root, graph, names) or _leak(match, root, readers, names)
        answer = checked(fusion.accept(match, graph), Decline)
        # What makes a group unsafe is worth a remark only where the fusion wanted it.
        wanted = not isinstance(answer, Decline) or answer.near
        verdict = unsafe if unsafe and wanted else answer
        if not isinstance(verdict, Decline):
            return Choice(fusion, match, verdict, root)
        at = verdict.at.name if isinstance(verdict.at, relax.Var) else root.name
        miss = miss or NearMiss(fusion.name, root.name, verdict.reason, at, verdict.mend)
        near = near and verdict.near
    return miss if near else None


def _unfit(match: Match, root: relax.Var, graph: Graph, names: Mapping[str, str]) -> Decline | None:
    """A group is a function of tensors with one tensor as result."""
    covered = set(match.covered)
    read = [v for var in match.covered for v in relax.analysis.free_vars(graph.bound(var)[1])]
    for value in (root, *(v for v in read if v not in covered)):
        if isinstance(value.ty, relax.TupleType | relax.ShapeType):
            kind = "tuple" if isinstance(value.ty, relax.TupleType) else "shape"
            shown = names.get(value.name, value.name)
            return Decline(
                f"{shown} is a {kind}, and a group takes and gives tensors",
                at=value,
                mend="cover what makes it, and of a tuple the Item that is used",
            )
    return None


def _leak(
    match: Match, root: relax.Var, readers: dict[relax.Var, set], names: Mapping[str, str]
) -> Decline | None:
    covered = set(match.covered)
    for var in match.covered:
        if var.same_as(root):
            continue
        if outside := readers[var] - covered:
            reader = min(
                names.get(reader.name, reader.name)
                if isinstance(reader, relax.Var)
                else "the model's outputs"
                for reader in outside
            )
            return Decline(
                f"{names.get(var.name, var.name)} has a second reader, {reader}",
                at=var,
                mend="compute it twice, or read the fused result instead",
            )
    return None


def _operands(match: Match) -> list[Expr]:
    """What rules read as a tensor, by its name in the pattern, even where it is one number."""
    return [
        value
        for name, value in match.values.items()
        if (name in _OPERANDS or name.endswith("_bias")) and isinstance(value, Expr)
    ]


def _roles(arguments: Sequence[relax.Expr], match: Match, graph: Graph) -> dict[str, int]:
    """Which argument each name of the pattern stands for; one may have several names."""
    return {
        name: place
        for name, value in match.values.items()
        for place, argument in enumerate(arguments)
        if isinstance(value, Expr)
        and (value.same_as(argument) or graph.bound(value)[1].same_as(argument))
    }
