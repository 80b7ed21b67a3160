"""Activation functions in every form that exporters write them in.

Each entry takes the pattern of the argument and gives the pattern of the result. Longer forms
come first: sigmoid would otherwise take the middle of SiLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tilewright.passes.pattern import Constant, Either, Number, Op, Pattern, Tagged, maybe

_ONE = Constant(single=True)


def _add(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.add", a, b)


def _mul(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.multiply", a, b)


def _clip(x: Pattern, high: float) -> Pattern:
    """X between 0 and `high`."""
    return Op("relax.clip", x, Number(0), Number(high))


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


def hard_sigmoid(x: Pattern) -> Pattern:
    """clip(a * x + b, 0, 1), or clip(x + 3, 0, 6) / 6, where a bias may have swallowed the 3."""
    line = _clip(_add(_mul(x, _ONE), _ONE), 1)
    shifted = _clip(maybe(lambda y: _add(y, Constant(value=3)), x), 6)
    sixth = Either(
        Op("relax.divide", shifted, Constant(value=6)), _mul(shifted, Constant(value=1 / 6))
    )
    return Either(line, sixth)


def hard_swish(x: Pattern) -> Pattern:
    """X * hard_sigmoid(x); also x * clip(x + 3, 0, 6) / 6."""
    product = _mul(x, _clip(_add(x, Constant(value=3)), 6))
    late = Either(
        Op("relax.divide", product, Constant(value=6)), _mul(product, Constant(value=1 / 6))
    )
    return Either(_mul(x, hard_sigmoid(x)), late)


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


def elu(x: Pattern) -> Pattern:
    """relu(x) - alpha * relu(1 - exp(x)): Clevert et al. 2016, as TVM's importer writes it."""
    below = Op("relax.nn.relu", Op("relax.subtract", Constant(value=1), Op("relax.exp", x)))
    return _add(_mul(below, _ONE), Op("relax.nn.relu", x))


def _relu(x: Pattern) -> Pattern:
    return Either(Op("relax.nn.relu", x), Op("relax.maximum", x, Constant(value=0)))


def clip(x: Pattern) -> Pattern:
    """Clip, also as the smaller of a constant and the larger of a constant and x."""
    low, high = Op("relax.maximum", x, _ONE), Op("relax.minimum", x, _ONE)
    pair = Either(Op("relax.minimum", low, _ONE), Op("relax.maximum", high, _ONE))
    bounded = Op("relax.minimum", Op("relax.nn.relu", x), _ONE)
    return Either(Op("relax.clip", x), pair, bounded)


# Name -> form. Order matters: the first that matches wins.
ACTIVATIONS: tuple[tuple[str, Callable[[Pattern], Pattern]], ...] = (
    ("gelu", lambda x: Either(Op("relax.nn.gelu", x), gelu_erf(x))),
    ("gelu_tanh", lambda x: Either(Op("relax.nn.gelu_tanh", x), gelu_tanh(x))),
    ("mish", mish),  # before tanh
    ("hard_swish", hard_swish),  # before hard_sigmoid
    ("hard_sigmoid", hard_sigmoid),  # before clip
    ("silu", silu),  # before sigmoid
    ("softplus", softplus),
    ("elu", elu),
    ("clip", clip),  # before relu: one may be inside
    ("relu", _relu),
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
