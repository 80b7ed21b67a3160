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


class Graph:
    """A function's bindings, for matching: what each variable stands for."""

    def __init__(self, function: relax.Function) -> None:
        self._values = relax.analysis.get_var2val(function)

    def bound(self, expr: relax.Expr) -> tuple[relax.Var | None, relax.Expr]:
        """The innermost variable of a chain of names, and the value bound to it."""
        var = None
        while isinstance(expr, relax.Var) and expr in self._values:
            var, expr = expr, self._values[expr]
        return var, expr


class Pattern(ABC):
    """Something to look for; `find` yields every way in which it matches `expr`."""

    @abstractmethod
    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Every extension of `match` in which this pattern stands at `expr`."""

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

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match a call in either order of its arguments if the operator allows it."""
        var, call = graph.bound(expr)
        operator = getattr(getattr(call, "op", None), "name", None)
        if not isinstance(call, relax.Call) or operator not in self._operators:
            return
        known = match.get(self._name) if self._name is not None else None
        if var is not None and known is not None and known.same_as(var):
            # Met before, by way of another operand (x * sigmoid(x)): what it reads matched then.
            yield match
            return
        start = match._with(self._name, var if var is not None else call)
        if start is None or len(call.args) < len(self._arguments):
            return
        start = start._covering(var)
        yield from _find_all(self._arguments, list(call.args), graph, start)
        if operator in COMMUTATIVE and len(self._arguments) == 2:
            yield from _find_all(self._arguments, list(call.args)[::-1], graph, start)


@dataclass(frozen=True)
class Item(Pattern):
    """One field of a tuple."""

    of: Pattern
    index: int

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match a field access."""
        var, item = graph.bound(expr)
        if isinstance(item, relax.TupleGetItem) and item.index == self.index:
            yield from self.of.find(item.tuple_value, graph, match._covering(var))


class Fields(Pattern):
    """A tuple with exactly these fields: the inputs of a concat."""

    def __init__(self, *fields: Pattern) -> None:
        self._fields = fields

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match a tuple written in place or bound to a variable."""
        var, value = graph.bound(expr)
        if isinstance(value, relax.Tuple) and len(value.fields) == len(self._fields):
            fields = list(value.fields)
            yield from _find_all(self._fields, fields, graph, match._covering(var))


class Either(Pattern):
    """Any of several patterns, the first that leads to a whole match wins."""

    def __init__(self, *patterns: Pattern) -> None:
        self._patterns = patterns

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Try the patterns in order."""
        for pattern in self._patterns:
            yield from pattern.find(expr, graph, match)


@dataclass(frozen=True)
class Tagged(Pattern):
    """`of`, with `values[name]` set to a word (or number) that says which alternative it was."""

    of: Pattern
    name: str
    word: str | float

    def find(self, expr: relax.Expr, graph: Graph, match: Match) -> Iterator[Match]:
        """Match `of`, once per name."""
        if self.name in match.values:
            return
        for found in self.of.find(expr, graph, match):
            yield Match({**found.values, self.name: self.word}, found.covered)


def maybe(wrap: Callable[[Pattern], Pattern], inner: Pattern) -> Pattern:
    """`wrap(inner)` where it is there, else `inner`."""
    return Either(wrap(inner), inner)


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
    patterns: tuple[Pattern, ...], exprs: list[relax.Expr], graph: Graph, match: Match
) -> Iterator[Match]:
    if not patterns:
        yield match
        return
    for found in patterns[0].find(exprs[0], graph, match):
        yield from _find_all(patterns[1:], exprs[1:], graph, found)
