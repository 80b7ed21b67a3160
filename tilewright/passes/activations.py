"""Activation functions in every form that exporters write them in.

Each form takes the pattern of the argument and the activation's name in the match, and gives the
pattern of the result. What determines it is named after that: alpha of the activation `gate` is
`gate.alpha`, or `gate.-alpha` or `gate.1/alpha` where the form holds that instead. `step_of` reads
them. Longer forms come first: sigmoid would otherwise take the middle of SiLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import relax

from tilewright.ops import Step
from tilewright.ops.step import PARAMETERS
from tilewright.passes.pattern import (
    Constant,
    Either,
    Graph,
    Match,
    Number,
    Op,
    Pattern,
    Tagged,
)
from tilewright.passes.relax_constants import array_of, is_constant, shortest

Form = Callable[[Pattern, str], Pattern]


def _add(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.add", a, b)


def _mul(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.multiply", a, b)


def _one(name: str, parameter: str) -> Pattern:
    """A constant of one element, which is a parameter of the activation `name`."""
    return Constant(f"{name}.{parameter}", single=True)


def _given(form: Pattern, name: str, **numbers: float) -> Pattern:
    """`form`, whose parameters are these numbers."""
    for parameter, number in numbers.items():
        form = Tagged(form, f"{name}.{parameter}", number)
    return form


def _clip(x: Pattern, high: float) -> Pattern:
    """X between 0 and `high`."""
    return Op("relax.clip", x, Number(0), Number(high))


def _product(*factors: Pattern) -> Pattern:
    """A product of three in any association and order."""
    a, b, c = factors
    return Either(_mul(_mul(a, b), c), _mul(_mul(a, c), b), _mul(a, _mul(b, c)))


def _sixth(x: Pattern) -> Pattern:
    return Either(Op("relax.divide", x, Constant(value=6)), _mul(x, Constant(value=1 / 6)))


def gelu_erf(x: Pattern) -> Pattern:
    """X * 0.5 * (1 + erf(x / sqrt 2)): Hendrycks and Gimpel 2016, arXiv:1606.08415."""
    scaled = Either(
        Op("relax.divide", x, Constant(value=math.sqrt(2))), _mul(x, Constant(value=math.sqrt(0.5)))
    )
    return _product(x, _add(Op("relax.erf", scaled), Constant(value=1)), Constant(value=0.5))


def gelu_tanh(x: Pattern) -> Pattern:
    """X * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))): the same paper, section 2.

    TVM's importer multiplies the brackets out for ONNX Runtime's FastGelu.
    """
    root = math.sqrt(2 / math.pi)
    square = Either(Op("relax.power", x, Constant(value=2)), _mul(x, x))
    cube = Either(Op("relax.power", x, Constant(value=3)), _mul(square, x))
    inner = _mul(_add(x, _mul(cube, Constant(value=0.044715))), Constant(value=root))
    spread = _add(_mul(x, Constant(value=root)), _mul(cube, Constant(value=0.044715 * root)))
    curve = Op("relax.tanh", Either(inner, spread))
    return _product(x, _add(curve, Constant(value=1)), Constant(value=0.5))


def hard_sigmoid(x: Pattern, name: str) -> Pattern:
    """clip(a * x + b, 0, 1), or clip(x + 3, 0, 6) / 6, where a bias may have swallowed the 3."""
    line = _clip(_add(_mul(x, _one(name, "alpha")), _one(name, "beta")), 1)
    shifted = _sixth(_clip(_add(x, Constant(value=3)), 6))
    return Either(
        line,
        _given(shifted, name, alpha=1 / 6, beta=0.5),
        _given(_sixth(_clip(x, 6)), name, alpha=1 / 6, beta=0),
    )


def hard_swish(x: Pattern, name: str) -> Pattern:
    """X * hard_sigmoid(x); also x * clip(x + 3, 0, 6) / 6."""
    late = _sixth(_mul(x, _clip(_add(x, Constant(value=3)), 6)))
    return Either(_mul(x, hard_sigmoid(x, name)), _given(late, name, alpha=1 / 6, beta=0.5))


def silu(x: Pattern) -> Pattern:
    """X * sigmoid(x)."""
    return Either(Op("relax.nn.silu", x), _mul(x, Op("relax.sigmoid", x)))


def mish(x: Pattern) -> Pattern:
    """X * tanh(softplus(x)): Misra 2019, arXiv:1908.08681."""
    return _mul(x, Op("relax.tanh", softplus(x)))


def softplus(x: Pattern) -> Pattern:
    """log(1 + exp(x)), also as max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    small = Op("relax.exp", Op("relax.negative", Op("relax.abs", x)))
    return Either(_add(_relu(x), _log_of_one_plus(small)), _log_of_one_plus(Op("relax.exp", x)))


def _log_of_one_plus(x: Pattern) -> Pattern:
    return Op("relax.log", _add(x, Constant(value=1)))


def elu(x: Pattern, name: str) -> Pattern:
    """relu(x) - alpha * relu(1 - exp(x)): Clevert et al. 2016, as TVM's importer writes it."""
    below = Op("relax.nn.relu", Op("relax.subtract", Constant(value=1), Op("relax.exp", x)))
    return _add(_mul(below, _one(name, "-alpha")), Op("relax.nn.relu", x))


def _relu(x: Pattern) -> Pattern:
    return Either(Op("relax.nn.relu", x), Op("relax.maximum", x, Constant(value=0)))


def clip(x: Pattern, name: str) -> Pattern:
    """Clip, also as the smaller of a constant and the larger of a constant and x."""
    low, high = _one(name, "low"), _one(name, "high")
    native = Op("relax.clip", x, Number(name=f"{name}.low"), Number(name=f"{name}.high"))
    low_first = Op("relax.minimum", Op("relax.maximum", x, low), high)
    high_first = Op("relax.maximum", Op("relax.minimum", x, high), low)
    bounded = _given(Op("relax.minimum", Op("relax.nn.relu", x), high), name, low=0)
    return Either(native, low_first, high_first, bounded)


def prelu(x: Pattern, name: str) -> Pattern:
    """A slope per element of an axis, below 0: He et al. 2015, arXiv:1502.01852."""
    return Op("relax.nn.prelu", x, Constant(f"{name}.slope"), name=f"{name}.axis")


# Name -> form. Order matters: the first that matches wins.
ACTIVATIONS: tuple[tuple[str, Form], ...] = (
    ("gelu", lambda x, _: Either(Op("relax.nn.gelu", x), gelu_erf(x))),
    ("gelu_tanh", lambda x, _: Either(Op("relax.nn.gelu_tanh", x), gelu_tanh(x))),
    ("mish", lambda x, _: mish(x)),  # before tanh
    ("hard_swish", hard_swish),  # before hard_sigmoid
    ("hard_sigmoid", hard_sigmoid),  # before clip
    ("silu", lambda x, _: silu(x)),  # before sigmoid
    ("softplus", lambda x, _: softplus(x)),
    ("elu", elu),
    ("clip", clip),  # before relu: one may be inside
    ("relu", lambda x, _: _relu(x)),
    ("leaky_relu", lambda x, name: Op("relax.nn.leakyrelu", x, name=f"{name}.alpha")),
    ("prelu", prelu),
    ("sigmoid", lambda x, _: Op("relax.sigmoid", x)),
    ("tanh", lambda x, _: Op("relax.tanh", x)),
)


def activation(x: Pattern, name: str = "activation") -> Pattern:
    """Any activation of `x`; `step_of` tells which."""
    return Either(*[Tagged(form(x, name), name, word) for word, form in ACTIVATIONS])


def step_of(match: Match, graph: Graph, name: str = "activation") -> Step | None:
    """The activation that `match` found under `name` with its parameters; None without one."""
    word = match.get(name)
    if word is None:
        return None
    return Step(word, tuple(_parameter(match, graph, name, p) for p in PARAMETERS[word]))


def _parameter(match: Match, graph: Graph, name: str, parameter: str) -> float:
    for prefix, undo in (("", float), ("-", lambda v: -v), ("1/", lambda v: 1 / v)):
        value = match.get(f"{name}.{prefix}{parameter}")
        if value is not None:
            return shortest(undo(_read(value, graph, parameter)))
    raise KeyError(f"{match[name]}: no form gives {parameter}")


def _read(value: relax.Expr | float, graph: Graph, parameter: str) -> float:
    """A number from a form, an immediate, a constant of one element, or a call's attribute."""
    if isinstance(value, int | float):
        return value
    if is_constant(value):
        return array_of(value).item()
    _, found = graph.bound(value)
    if not isinstance(found, relax.Call):
        return value.value
    if parameter == "axis":
        return int(found.attrs.axis) % found.ty.ndim - found.ty.ndim
    return getattr(found.attrs, parameter)
