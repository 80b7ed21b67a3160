"""A small pattern language for dataflow graphs: what a fusion looks for, written as a formula.

    x, w, b = Any("x"), Constant("w"), Constant("b")
    y = Op("relax.nn.relu", maybe(lambda v: Op("relax.add", v, b), Op("relax.nn.conv2d", x, w)))

A match looks through variables at what they are bound to, tries both orders of commutative
operators and all alternatives, and backtracks. The same name must stand for the same value
everywhere in a pattern.
"""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import tvm
from tvm import relax

from tilewright.errors import OptionError
from tilewright.passes.relax_constants import array_of, is_constant

COMMUTATIVE = frozenset(
    {"relax.add", "relax.multiply", "relax.maximum", "relax.minimum", "relax.logical_and"}
)

_CONSTANT, _TUPLE, _FIELD = "constant", "tuple", "field"


@dataclass(frozen=True)
class Match:
    """What a pattern found: `values` by name, and the variables whose bindings it covers."""

    values: Mapping[str, relax.Expr] = field(default_factory=dict)
    covered: tuple[relax.Var, ...] = ()

    def __getitem__(self, name: str) -> relax.Expr:
        return self.values[name]

    def get(self, name: str) -> relax.Expr | None:
        """The value called `name`, None when its alternative was not taken."""
        return self.values.get(name)

    def _with(self, name: str | None, value: relax.Expr) -> Match | None:
        """This match with one more named value; None when the name stands for another."""
        if name is None:
            return self
        known = self.values.get(name)
        if known is not None:
            return self if known.same_as(value) else None
        return Match({**self.values, name: value}, self.covered)

    def _covering(self, var: relax.Var | None) -> Match:
        if var is None or any(var.same_as(known) for known in self.covered):
            return self
        return Match(self.values, (*self.covered, var))


@dataclass(frozen=True, slots=True)
class _Node:
    """A value, the variable it is bound to, and what a pattern looks at first."""

    var: relax.Var | None
    value: relax.Expr
    kind: str
    arguments: tuple[relax.Expr, ...]

    @classmethod
    def of(cls, var: relax.Var | None, value: relax.Expr) -> _Node:
        arguments = tuple(value.args) if isinstance(value, relax.Call) else ()
        return cls(var, value, _kind(value), arguments)


class Graph:
    """A function's bindings, for matching: what each variable stands for."""

    def __init__(self, function: relax.Function) -> None:
        self._values = relax.analysis.get_var2val(function)
        self._nodes: dict[int, _Node] = {}
        # Kept alive: an id is that of another object once its own is gone.
        self._seen: list[relax.Expr] = []

    def bound(self, expr: relax.Expr) -> tuple[relax.Var | None, relax.Expr]:
        """The innermost variable of a chain of names, and the value bound to it."""
        node = self._node(expr)
        return node.var, node.value

    def kind(self, expr: relax.Expr) -> str:
        """The operator that `expr` is a call of; else "constant", "tuple", "field" or ""."""
        return self._node(expr).kind

    def arguments(self, expr: relax.Expr) -> tuple[relax.Expr, ...]:
        """What the call that `expr` is takes; nothing when it is none."""
        return self._node(expr).arguments

    def _node(self, expr: relax.Expr) -> _Node:
        # Matching asks for the same few values over and over; comparing them would cost the most,
        # and asking of what class they are the most of the rest.
        key = expr.id_
        node = self._nodes.get(key)
        if node is None:
            var, value = None, expr
            while isinstance(value, relax.Var) and value in self._values:
                var, value = value, self._values[value]
            node = self._nodes[key] = _Node.of(var, value)
            self._seen.append(expr)
        return node


class Pattern(ABC):
    """Something to look for; `find` yields every way in which it matches `expr`."""

    @abstractmethod
    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Every extension of `match` in which this pattern stands at `expr`."""

    def kinds(self) -> frozenset[str] | None:
        """The kinds (`Graph.kind`) of values at which it may match; None for any."""
        return None

    def match(self, expr: relax.Expr, graph: Graph) -> Iterator[Match]:
        """Every way in which this pattern stands at `expr`."""
        return self.find(expr, graph, Match())


@dataclass(frozen=True)
class Any(Pattern):
    """Any value; nothing of it is covered."""

    name: str | None = None

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match `expr` as it is."""
        if found := match._with(self.name, expr):
            yield found


@dataclass(frozen=True)
class Constant(Pattern):
    """A tensor literal; with `value`, one whose elements are all that number (to 0.1%).

    With `single`, one that has one element; with `within`, one of one element between two bounds;
    with `vector`, one with at most one axis longer than one.
    """

    name: str | None = None
    value: float | None = None
    single: bool = False
    within: tuple[float, float] | None = None
    vector: bool = False

    def kinds(self) -> frozenset[str]:
        """Literals."""
        return frozenset({_CONSTANT})

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match a literal, through variables."""
        _, value = graph.bound(expr)
        if not is_constant(value):
            return
        if self._takes(array_of(value)) and (found := match._with(self.name, value)):
            yield found

    def _takes(self, array: np.ndarray) -> bool:
        if self.value is not None and not np.allclose(array, self.value, rtol=1e-3):
            return False
        if (self.single or self.within) and array.size != 1:
            return False
        if self.within and not self.within[0] <= array.item() <= self.within[1]:
            return False
        return not self.vector or sum(size != 1 for size in array.shape) <= 1


@dataclass(frozen=True)
class Number(Pattern):
    """A number among an operator's arguments, such as a bound of a clip; `value` to 0.1%."""

    value: float | None = None
    name: str | None = None

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match an immediate."""
        value = getattr(expr, "value", None)
        if not isinstance(value, int | float):
            return
        if self.value is not None and not math.isclose(value, self.value, rel_tol=1e-3):
            return
        if found := match._with(self.name, expr):
            yield found


class Op(Pattern):
    """A call of an operator (or one of several) with arguments that match.

    Arguments that are not given may be anything. `name` stands for the variable it is bound to.
    Raises OptionError for an operator that Relax does not have: it would match nothing, ever.
    """

    def __init__(
        self, operator: str | tuple[str, ...], *arguments: Pattern, name: str | None = None
    ) -> None:
        self._operators = (operator,) if isinstance(operator, str) else operator
        for known in self._operators:
            _check_operator(known)
        for argument in arguments:
            if not isinstance(argument, Pattern):
                raise OptionError(
                    f"an argument of Op({operator!r}) is {argument!r}",
                    expected="a pattern: Any(...), Constant(value=2), Number(0), Op(...)",
                )
        self._arguments = arguments
        self._name = name

    def kinds(self) -> frozenset[str]:
        """Its operators."""
        return frozenset(self._operators)

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match a call in either order of its arguments if the operator allows it."""
        operator = graph.kind(expr)
        if operator not in self._operators:
            return
        var, call = graph.bound(expr)
        arguments = graph.arguments(expr)
        known = match.get(self._name) if self._name is not None else None
        if var is not None and known is not None and known.same_as(var):
            # Met before, by way of another operand (x * sigmoid(x)): what it reads matched then.
            yield match
            return
        start = match._with(self._name, var if var is not None else call)
        if start is None or len(arguments) < len(self._arguments):
            return
        start = start._covering(var)
        yield from _find_all(self._arguments, arguments, graph, start)
        if operator in COMMUTATIVE and len(self._arguments) == 2:
            yield from _find_all(self._arguments, arguments[::-1], graph, start)


@dataclass(frozen=True)
class Item(Pattern):
    """One field of a tuple."""

    of: Pattern
    index: int

    def kinds(self) -> frozenset[str]:
        """Fields of tuples."""
        return frozenset({_FIELD})

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match a field access."""
        var, item = graph.bound(expr)
        if isinstance(item, relax.TupleGetItem) and item.index == self.index:
            yield from self.of.find(item.tuple_value, graph, match._covering(var))


class Fields(Pattern):
    """A tuple with exactly these fields: the inputs of a concat."""

    def __init__(self, *fields: Pattern) -> None:
        self._fields = fields

    def kinds(self) -> frozenset[str]:
        """Tuples."""
        return frozenset({_TUPLE})

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match a tuple written in place or bound to a variable."""
        var, value = graph.bound(expr)
        if isinstance(value, relax.Tuple) and len(value.fields) == len(self._fields):
            fields = tuple(value.fields)
            yield from _find_all(self._fields, fields, graph, match._covering(var))


class Either(Pattern):
    """Any of several patterns, the first that leads to a whole match wins."""

    def __init__(self, *patterns: Pattern) -> None:
        self._patterns = tuple((pattern, pattern.kinds()) for pattern in patterns)
        self._by_kind: dict[str, tuple[Pattern, ...]] = {}

    def kinds(self) -> frozenset[str] | None:
        """Those of all patterns."""
        kinds = [kinds for _, kinds in self._patterns]
        return None if None in kinds else frozenset().union(*kinds)

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Try the patterns in order."""
        kind = graph.kind(expr)
        if kind not in self._by_kind:
            self._by_kind[kind] = tuple(
                pattern for pattern, kinds in self._patterns if kinds is None or kind in kinds
            )
        for pattern in self._by_kind[kind]:
            yield from pattern.find(expr, graph, match)


class Both(Pattern):
    """Every one of several patterns, at the same value: `Both(Any("x"), Op(...))` names it."""

    def __init__(self, *patterns: Pattern) -> None:
        self._patterns = patterns

    def kinds(self) -> frozenset[str] | None:
        """What all of them may match."""
        known = [kinds for p in self._patterns if (kinds := p.kinds()) is not None]
        return frozenset.intersection(*known) if known else None

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match in order, each with what the earlier ones found."""
        yield from _find_all(self._patterns, (expr,) * len(self._patterns), graph, match)


@dataclass(frozen=True)
class Tagged(Pattern):
    """`of`, with `values[name]` set to a word (or number) that says which alternative it was."""

    of: Pattern
    name: str
    word: str | float

    def kinds(self) -> frozenset[str] | None:
        """Those of `of`."""
        return self.of.kinds()

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match `of`, once per name."""
        if self.name in match.values:
            return
        for found in self.of.find(expr, graph, match):
            yield Match({**found.values, self.name: self.word}, found.covered)


def maybe(wrap: Callable[[Pattern], Pattern], inner: Pattern) -> Pattern:
    """`wrap(inner)` where it is there, else `inner`."""
    return Either(wrap(inner), inner)


def _kind(value: relax.Expr) -> str:
    if isinstance(value, relax.Call):
        return getattr(value.op, "name", "")
    if isinstance(value, relax.Tuple):
        return _TUPLE
    if isinstance(value, relax.TupleGetItem):
        return _FIELD
    return _CONSTANT if is_constant(value) else ""


def _check_operator(name: str) -> None:
    known = _relax_operators()
    if name not in known:
        words = {other.rsplit(".", 1)[-1]: other for other in sorted(known)}
        close = difflib.get_close_matches(name.lower().rsplit(".", 1)[-1], words)
        raise OptionError(
            f"Relax has no operator {name!r}",
            expected=f"such as {', '.join(words[word] for word in close)}"
            if close
            else "a name such as relax.nn.relu",
            hint="`tilewright compile MODEL.onnx --dump DIR` shows the graph: R.tanh is relax.tanh",
        )


@cache
def _relax_operators() -> frozenset[str]:
    """Names of all operators that Relax has."""
    names = (str(name) for name in tvm.ir.Op.list_op_names())
    return frozenset(name for name in names if name.startswith("relax."))


def _find_all(
    patterns: tuple[Pattern, ...], exprs: tuple[relax.Expr, ...], graph: Graph, match: Match
) -> Iterator[Match]:
    if not patterns:
        yield match
        return
    for found in patterns[0].find(exprs[0], graph, match):
        yield from _find_all(patterns[1:], exprs[1:], graph, found)
