"""Rows of operators for random graphs: elementwise, reductions, and what rearranges.

A row says which values it takes, and draws the rest: attributes, constants, other operands. What
could make a graph ill-posed is kept out here: comparisons of rounded numbers, which the last bit
decides, divisors near zero, powers of powers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from tilewright.verification.graph_builder import Builder, Size, Value, elements

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]
Make = Callable[[Draw, Builder, Value], object]

# Where powers of the inputs end.
HIGHEST_DEGREE = 3
MOST_ELEMENTS = 8192


@dataclass(frozen=True)
class Operator:
    """One way to go on from a value: `make` adds one node or a few."""

    name: str
    takes: Callable[[Value], bool]
    make: Make


def one_of(draw: Draw, *choices: T) -> T:
    """One of the choices; the first is the simplest."""
    return draw(st.sampled_from(choices))


def between(draw: Draw, low: int, high: int) -> int:
    """An integer in low..high."""
    return draw(st.integers(low, high))


def chance(draw: Draw) -> bool:
    """Yes or no; no is simpler."""
    return draw(st.booleans())


def scalar(net: Builder, number: float, like: Value) -> Value:
    """A constant without dimensions."""
    return net.constant(number, like.dtype)


def small(value: Value) -> bool:
    """Whether an operator that makes it a few times larger may take it."""
    return value.elements <= MOST_ELEMENTS // 4


def _floats(value: Value) -> bool:
    return value.floats


def _numbers(value: Value) -> bool:
    return value.floats or value.dtype == "int64"


# Functions of one number, and what bounds them.

_SELECTING = ("Relu", "Abs", "Neg", "Identity")
_PLAIN = (
    *("LeakyRelu", "HardSwish", "Gelu", "Elu", "Softplus", "Mish", "Selu", "Celu", "Sin", "Cos"),
    *("ThresholdedRelu",),
)
_BOUNDED = ("Sigmoid", "Tanh", "Erf", "HardSigmoid", "Softsign", "Atan")
_STEPS = ("Floor", "Ceil", "Round", "Sign")
# With a value above zero, far enough that rounding does not change the result much.
_OF_POSITIVE = ("Sqrt", "Log", "Reciprocal")
_UNKNOWN_TO_FLOAT64 = {
    *("Erf", "HardSwish", "Mish", "Celu", "Gelu", "Selu", "ThresholdedRelu", "Atan", "HardSigmoid"),
    *("LeakyRelu", "Elu", "Softsign", "Softplus"),
}


def _unary(op: str) -> Operator:
    def make(draw: Draw, net: Builder, x: Value) -> Value:
        attributes = {}
        if op in ("LeakyRelu", "Elu", "Celu", "ThresholdedRelu") and chance(draw):
            attributes["alpha"] = one_of(draw, 0.1, 0.5, 1.5)
        if op == "HardSigmoid" and chance(draw):
            attributes = {"alpha": one_of(draw, 1 / 6, 0.25), "beta": 0.5}
        if op == "Gelu" and chance(draw):
            attributes["approximate"] = "tanh"
        exact = x.exact and op in _SELECTING + _STEPS
        degree = 0 if op in _BOUNDED else None
        return net.add(op, x, exact=exact, degree=degree, **attributes)

    def takes(x: Value) -> bool:
        if op in _STEPS:
            return x.floats and x.exact
        if op == "Celu":
            return x.dtype == "float32"
        if op == "ThresholdedRelu":
            return x.dtype == "float32" and x.exact
        if op in ("Abs", "Neg", "Identity"):
            return _numbers(x)
        return x.floats and not (x.dtype == "float64" and op in _UNKNOWN_TO_FLOAT64)

    return Operator(op, takes, make)


def _of_positive(op: str) -> Operator:
    def make(draw: Draw, net: Builder, x: Value) -> Value:
        positive = net.add("Add", net.add("Abs", x), scalar(net, 0.5, x))
        return net.add(op, positive, degree=max(1, x.degree) if op == "Sqrt" else 1)

    return Operator(op, _floats, make)


def _exp(draw: Draw, net: Builder, x: Value) -> Value:
    bounded = x if x.degree == 0 else net.add("Tanh", x, degree=0)
    return net.add("Exp", bounded, degree=0)


def _pow(draw: Draw, net: Builder, x: Value) -> Value:
    return net.add("Pow", x, scalar(net, one_of(draw, 2.0, 1.0, 3.0), x), degree=3 * x.degree)


def _clip(draw: Draw, net: Builder, x: Value) -> Value:
    low, high = one_of(draw, (0.0, 6.0), (-1.0, 1.0), (0.0, None), (None, 0.5), (-0.5, 2.5))
    bounds = [None if end is None else scalar(net, end, x) for end in (low, high)]
    bounded = low is not None and high is not None
    given = bounds if bounds[1] is not None else bounds[:1]
    return net.add("Clip", x, *given, exact=x.exact, degree=0 if bounded else x.degree)


def _prelu(draw: Draw, net: Builder, x: Value) -> Value:
    slope = _partner_shape(draw, x)
    return net.add("PRelu", x, net.weight(x.dtype, *slope))


# Of two values.


def _partner_shape(draw: Draw, x: Value) -> tuple[int, ...]:
    """The shape of a constant that broadcasts to x: nothing, the last axes, ones among them."""
    kept = between(draw, 0, x.rank)
    shape = [
        size if isinstance(size, int) and not chance(draw) else 1
        for size in x.shape[x.rank - kept :]
    ]
    return tuple(shape)


def broadcasts(a: tuple[Size, ...], b: tuple[Size, ...]) -> bool:
    """Whether values of shapes a and b can be combined, and the result stays small."""
    pairs = list(zip(reversed(a), reversed(b)))  # noqa: B905 - the shorter one ends first
    result = [x if y == 1 else y for x, y in pairs]
    longer = a if len(a) > len(b) else b
    whole = (*longer[: len(longer) - len(pairs)], *result)
    return all(x == y or 1 in (x, y) for x, y in pairs) and elements(whole) <= MOST_ELEMENTS


def _partner(draw: Draw, net: Builder, x: Value, near: float | None = None) -> Value:
    """A constant, another value, or x itself."""
    others = [v for v in net.values if v.dtype == x.dtype and broadcasts(x.shape, v.shape)]
    if others and chance(draw):
        return one_of(draw, *reversed(others))
    return net.weight(x.dtype, *_partner_shape(draw, x), near=near)


def _ordered(draw: Draw, a: Value, b: Value) -> tuple[Value, Value]:
    return (b, a) if chance(draw) else (a, b)


def _binary(op: str) -> Operator:
    def make(draw: Draw, net: Builder, x: Value) -> Value | None:
        y = _partner(draw, net, x)
        degree = x.degree + y.degree if op == "Mul" else max(x.degree, y.degree)
        if degree > HIGHEST_DEGREE:
            return None
        exact = op in ("Max", "Min") and x.exact and y.exact
        return net.add(op, *_ordered(draw, x, y), exact=exact, degree=degree)

    return Operator(op, _numbers, make)


def _div(draw: Draw, net: Builder, x: Value) -> Value:
    if chance(draw):
        return net.add("Div", x, net.weight(x.dtype, *_partner_shape(draw, x), near=2.0))
    y = _partner(draw, net, x)
    divisor = net.add("Add", net.add("Abs", y), scalar(net, 0.5, x))
    return net.add("Div", x, divisor)


def _compare_where(draw: Draw, net: Builder, x: Value) -> Value:
    op = one_of(draw, "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal")
    exact = [v for v in net.values if v.exact and v.dtype == x.dtype]
    sides = [v for v in exact if broadcasts(x.shape, v.shape)]
    against = one_of(draw, scalar(net, 0.25, x), *reversed(sides))
    condition = net.add(op, *_ordered(draw, x, against), exact=True, degree=0)
    if chance(draw):
        condition = net.add("Not", condition, exact=True, degree=0)
    a, b = _ordered(draw, x, scalar(net, one_of(draw, 0.0, -1.0), x))
    return net.add("Where", condition, a, b, exact=True, degree=x.degree)


def _logical(draw: Draw, net: Builder, x: Value) -> Value:
    fitting = [v for v in net.values if v.dtype == "bool" and broadcasts(x.shape, v.shape)]
    # A large tensor does not even broadcast with itself: results are kept small.
    others = fitting or [x]
    op = one_of(draw, "And", "Or", "Xor")
    mixed = net.add(op, x, one_of(draw, *others), exact=True, degree=0)
    return net.add("Cast", mixed, to=1, exact=True, degree=0)


def _where(draw: Draw, net: Builder, x: Value) -> Value:
    a, b = _ordered(draw, x, _partner(draw, net, x))
    wider = a if elements(a.shape) >= elements(b.shape) else b
    conditions = [v for v in net.values if v.dtype == "bool" and broadcasts(wider.shape, v.shape)]
    if not conditions:
        shape = _partner_shape(draw, wider)
        conditions = [net.constant(np.arange(elements(shape)).reshape(shape) % 3 > 0, "bool")]
    return net.add("Where", one_of(draw, *conditions), a, b, exact=a.exact and b.exact)


_KINDS = {"float32": 1, "int64": 7, "bool": 9, "float16": 10, "float64": 11, "int32": 6}


def _cast(draw: Draw, net: Builder, x: Value) -> Value:
    """To another type and back to float32: few operators take the other."""
    if x.dtype != "float32":
        return net.add("Cast", x, to=1, exact=x.exact, degree=x.degree)
    discrete = ("int32", "int64", "bool") if x.exact else ()
    kind = one_of(draw, "float64", "float16", *discrete)
    exact = x.exact and kind != "float16"
    other = net.add("Cast", x, to=_KINDS[kind], exact=exact)
    return net.add("Cast", other, to=1, exact=exact)


# Along axes.


def axis_of(draw: Draw, x: Value) -> int:
    """An axis, counted from the end or from the start."""
    axis = between(draw, 1, x.rank)
    return x.rank - axis if chance(draw) else -axis


def _axes_of(draw: Draw, x: Value) -> list[int]:
    chosen = draw(st.sets(st.integers(0, x.rank - 1), min_size=1))
    return sorted(axis - x.rank if chance(draw) else axis for axis in chosen)


def _reduce(op: str) -> Operator:
    def make(draw: Draw, net: Builder, x: Value) -> Value | None:
        axes = [] if chance(draw) and chance(draw) else [net.ints(*_axes_of(draw, x))]
        exact = x.exact and op in ("ReduceMax", "ReduceMin")
        degree = x.degree * (2 if op == "ReduceSumSquare" else 1)
        if degree > HIGHEST_DEGREE:
            return None
        return net.add(op, x, *axes, keepdims=between(draw, 0, 1), exact=exact, degree=degree)

    def takes(x: Value) -> bool:
        return x.rank > 0 and (x.floats or (x.dtype == "int64" and op in _REDUCE_INTEGERS))

    return Operator(op, takes, make)


_REDUCE_INTEGERS = ("ReduceSum", "ReduceMax", "ReduceMin")
_REDUCES = (
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare",),
)


def _log_sum_exp(draw: Draw, net: Builder, x: Value) -> Value:
    return net.add("ReduceLogSumExp", x, net.ints(axis_of(draw, x)), keepdims=1)


def _softmax(op: str) -> Operator:
    def make(draw: Draw, net: Builder, x: Value) -> Value:
        return net.add(op, x, axis=axis_of(draw, x), degree=0 if op == "Softmax" else x.degree)

    return Operator(op, lambda x: x.floats and x.rank > 0, make)


def _arg(op: str) -> Operator:
    def make(draw: Draw, net: Builder, x: Value) -> Value:
        attributes = {"axis": axis_of(draw, x), "keepdims": between(draw, 0, 1)}
        if chance(draw):
            attributes["select_last_index"] = 1
        return net.add(op, x, exact=True, degree=0, **attributes)

    return Operator(op, lambda x: x.floats and x.exact and x.rank > 0, make)


def _top_k(draw: Draw, net: Builder, x: Value) -> Value:
    axis = one_of(draw, *(axis for axis in range(x.rank) if x.fixed(axis)))
    count = net.ints(between(draw, 1, x.shape[axis]))
    largest = 0 if chance(draw) else 1
    # Its indices are a second output, which anything that takes integers may go on from.
    return net.add("TopK", x, count, outputs=2, axis=axis, largest=largest, exact=True)


def _cum_sum(draw: Draw, net: Builder, x: Value) -> Value:
    attributes = {"exclusive": between(draw, 0, 1), "reverse": between(draw, 0, 1)}
    return net.add("CumSum", x, net.constant(axis_of(draw, x), "int64"), **attributes)


def _has_axis(x: Value) -> bool:
    return x.floats and x.rank > 0


def _some_fixed(x: Value) -> bool:
    return any(x.fixed(axis) for axis in range(x.rank))


ELEMENTWISE = (
    *(_unary(op) for op in (*_SELECTING, *_BOUNDED, *_PLAIN, *_STEPS)),
    *(_of_positive(op) for op in _OF_POSITIVE),
    *(_binary(op) for op in ("Add", "Mul", "Sub", "Max", "Min")),
    Operator("Div", _floats, _div),
    Operator("Exp", _floats, _exp),
    Operator("Pow", lambda x: x.floats and x.degree <= 1, _pow),
    Operator("Clip", lambda x: x.floats, _clip),
    Operator("PRelu", lambda x: x.dtype == "float32", _prelu),
    Operator("compare_where", lambda x: x.floats and x.exact, _compare_where),
    Operator("Where", _floats, _where),
    Operator("logical", lambda x: x.dtype == "bool", _logical),
    Operator("Cast", lambda x: x.dtype != "float16", _cast),
)
ALONG_AXES = (
    *(_reduce(op) for op in _REDUCES),
    Operator("ReduceLogSumExp", _has_axis, _log_sum_exp),
    *(_softmax(op) for op in ("Softmax", "LogSoftmax")),
    *(_arg(op) for op in ("ArgMax", "ArgMin")),
    Operator("TopK", lambda x: x.floats and x.exact and _some_fixed(x), _top_k),
    Operator("CumSum", lambda x: _has_axis(x) and x.dtype != "float16", _cum_sum),
)
