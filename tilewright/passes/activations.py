"""Activation functions in every form that exporters write them in.

Each entry takes the pattern of the argument and gives the pattern of the result. Longer forms
come first: sigmoid would otherwise take the middle of SiLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tilewright.passes.pattern import Constant, Either, Op, Pattern, Tagged, maybe


def _add(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.add", a, b)


def _mul(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.multiply", a, b)


def _product(*factors: Pattern) -> Pattern:
    """A product of three in any association and order."""
    a, b, c = factors
    return Either(_mul(_mul(a, b), c), _mul(_mul(a, c), b), _mul(a, _mul(b, c)))


def gelu_erf(x: Pattern) -> Pattern:
    """X * 0.5 * (1 + erf(x / sqrt 2)): Hendrycks and Gimpel 2016, arXiv:1606.08415."""
    scaled = Either(
        Op("relax.divide", x, Constant(value=math.sqrt(2))), _mul(x, Constant(value=math.sqrt(0.5)))
    )
    return _product(x, _add(Op("relax.erf", scaled), Constant(value=1)), Constant(value=0.5))


def gelu_tanh(x: Pattern) -> Pattern:
    """X * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))): the same paper, section 2."""
    square = Either(Op("relax.power", x, Constant(value=2)), _mul(x, x))
    cube = Either(Op("relax.power", x, Constant(value=3)), _mul(square, x))
    inner = _add(x, _mul(cube, Constant(value=0.044715)))
    curve = Op("relax.tanh", _mul(inner, Constant(value=math.sqrt(2 / math.pi))))
    return _product(x, _add(curve, Constant(value=1)), Constant(value=0.5))


def hard_sigmoid(x: Pattern) -> Pattern:
    """clip(a * x + b, 0, 1), or clip(x + 3, 0, 6) / 6."""
    line = Op("relax.clip", _add(_mul(x, Constant()), Constant()))
    shifted = Op("relax.clip", _add(x, Constant(value=3)))
    sixth = Either(
        Op("relax.divide", shifted, Constant(value=6)), _mul(shifted, Constant(value=1 / 6))
    )
    return Either(line, sixth)


def hard_swish(x: Pattern) -> Pattern:
    """X * hard_sigmoid(x); also x * clip(x + 3, 0, 6) / 6."""
    product = _mul(x, Op("relax.clip", _add(x, Constant(value=3))))
    late = Either(
        Op("relax.divide", product, Constant(value=6)), _mul(product, Constant(value=1 / 6))
    )
    return Either(_mul(x, hard_sigmoid(x)), late)


def silu(x: Pattern) -> Pattern:
    """X * sigmoid(x)."""
    return Either(Op("relax.nn.silu", x), _mul(x, Op("relax.sigmoid", x)))


def mish(x: Pattern) -> Pattern:
    """X * tanh(softplus(x)): Misra 2019, arXiv:1908.08681."""
    softplus = Either(
        Op("relax.nn.softplus", x),
        Op("relax.log", _add(Op("relax.exp", x), Constant(value=1))),
    )
    return _mul(x, Op("relax.tanh", softplus))


# Name -> form. Order matters: the first that matches wins.
ACTIVATIONS: tuple[tuple[str, Callable[[Pattern], Pattern]], ...] = (
    ("gelu", lambda x: Either(Op("relax.nn.gelu", x), gelu_erf(x))),
    ("gelu_tanh", lambda x: Either(Op("relax.nn.gelu_tanh", x), gelu_tanh(x))),
    ("mish", mish),  # before tanh
    ("hard_swish", hard_swish),  # before hard_sigmoid
    ("hard_sigmoid", hard_sigmoid),  # before clip
    ("silu", silu),  # before sigmoid
    ("relu", lambda x: Either(Op("relax.nn.relu", x), Op("relax.maximum", x, Constant(value=0)))),
    ("clip", lambda x: Op("relax.clip", x)),
    ("leaky_relu", lambda x: Op("relax.nn.leakyrelu", x)),
    ("prelu", lambda x: Op("relax.nn.prelu", x, Constant("slope"))),
    ("sigmoid", lambda x: Op("relax.sigmoid", x)),
    ("tanh", lambda x: Op("relax.tanh", x)),
)


def activation(x: Pattern, name: str = "activation") -> Pattern:
    """Any activation of `x`; the match's `name` says which."""
    return Either(*[Tagged(form(x), name, word) for word, form in ACTIVATIONS])


def maybe_activation(x: Pattern, name: str = "activation") -> Pattern:
    """An activation of `x`, or `x` itself."""
    return maybe(lambda inner: activation(inner, name), x)
