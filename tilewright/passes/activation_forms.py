"""The forms in which exporters write activation functions.

Each takes the pattern of the argument and the activation's name in the match, and gives the
pattern of the result. What determines it is named after that: alpha of the activation `gate` is
`gate.alpha`, or `gate.-alpha` or `gate.1/alpha` where the form holds that instead.
`tilewright.passes.activations` lists them and reads the numbers.
"""

from __future__ import annotations

import math

from tilewright.passes.pattern import Constant, Either, Number, Op, Pattern, Tagged

_ZERO, _ONE = Constant(value=0), Constant(value=1)


def _add(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.add", a, b)


def _mul(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.multiply", a, b)


def _div(a: Pattern, b: Pattern) -> Pattern:
    return Op("relax.divide", a, b)


def _where_positive(x: Pattern, above: Pattern, below: Pattern) -> Pattern:
    """`above` where x > 0, else `below`."""
    positive = Op(("relax.greater", "relax.greater_equal"), x, _ZERO)
    negative = Op(("relax.less", "relax.less_equal"), x, _ZERO)
    return Either(
        Op("relax.where", positive, above, below), Op("relax.where", negative, below, above)
    )


def _one(name: str, parameter: str) -> Pattern:
    """A constant of one element, which is a parameter of the activation `name`."""
    return Constant(f"{name}.{parameter}", single=True)


def _scaled(x: Pattern, name: str, parameter: str) -> Pattern:
    """X times a parameter, or divided by its inverse."""
    return Either(_mul(x, _one(name, parameter)), _div(x, _one(name, f"1/{parameter}")))


def _given(form: Pattern, name: str, **numbers: float) -> Pattern:
    """`form`, whose parameters are these numbers."""
    for parameter, number in numbers.items():
        form = Tagged(form, f"{name}.{parameter}", number)
    return form


def _product(a: Pattern, b: Pattern, c: Pattern) -> Pattern:
    """A product of three in any association and order."""
    return Either(_mul(_mul(a, b), c), _mul(_mul(a, c), b), _mul(a, _mul(b, c)))


def relu(x: Pattern, _name: str = "") -> Pattern:
    """max(x, 0)."""
    return Either(Op("relax.nn.relu", x), Op("relax.maximum", x, _ZERO))


def _bounded(x: Pattern, high: float) -> Pattern:
    """X between 0 and `high`."""
    top = Constant(value=high)
    pair = Op("relax.maximum", Op("relax.minimum", x, top), _ZERO)
    return Either(
        Op("relax.clip", x, Number(0), Number(high)), Op("relax.minimum", relu(x), top), pair
    )


def clip(x: Pattern, name: str) -> Pattern:
    """Clip, also as the smaller of a constant and the larger of a constant and x."""
    low, high = _one(name, "low"), _one(name, "high")
    native = Op("relax.clip", x, Number(name=f"{name}.low"), Number(name=f"{name}.high"))
    low_first = Op("relax.minimum", Op("relax.maximum", x, low), high)
    high_first = Op("relax.maximum", Op("relax.minimum", x, high), low)
    from_zero = _given(Op("relax.minimum", Op("relax.nn.relu", x), high), name, low=0)
    return Either(native, low_first, high_first, from_zero)


def leaky_relu(x: Pattern, name: str) -> Pattern:
    """X where x > 0, else alpha * x; with alpha between 0 and 1 the larger of x and alpha * x."""
    native = Op("relax.nn.leakyrelu", x, name=f"{name}.alpha")
    larger = Op("relax.maximum", x, _mul(x, Constant(f"{name}.alpha", within=(0, 1))))
    chosen = _where_positive(x, x, _mul(x, _one(name, "alpha")))
    return Either(native, larger, chosen, _two_sides(x, name, "alpha", single=True))


def prelu(x: Pattern, name: str) -> Pattern:
    """A slope per element of an axis below 0: He et al. 2015, arXiv:1502.01852."""
    native = Op("relax.nn.prelu", x, Constant(f"{name}.slope"), name=f"{name}.axis")
    written = _two_sides(x, name, "axis", vector=True)
    return Either(_given(native, name, sign=1), written)


def _two_sides(x: Pattern, name: str, slope: str, **kind: bool) -> Pattern:
    """relu(x) - slope * relu(-x), also with the slope's sign turned.

    With `vector` the slope's sign is a parameter: the slope itself is an argument.
    """
    down = relu(Either(Op("relax.negative", x), _mul(x, Constant(value=-1))))
    turned = Constant(f"{name}.{slope}" if "vector" in kind else f"{name}.-{slope}", **kind)
    plain = Constant(f"{name}.{slope}", **kind)
    minus = Either(
        Op("relax.subtract", relu(x), _mul(down, plain)),
        _add(relu(x), _mul(Op("relax.negative", down), plain)),
        _add(relu(x), Op("relax.negative", _mul(down, plain))),
    )
    plus = _add(relu(x), _mul(down, turned))
    if "vector" in kind:
        return Either(_given(minus, name, sign=1), _given(plus, name, sign=-1))
    return Either(minus, plus)


def thresholded_relu(x: Pattern, name: str) -> Pattern:
    """X where x > alpha, else 0: Konda et al. 2014, arXiv:1402.3337."""
    above = Op("relax.greater", x, _one(name, "alpha"))
    return Either(_mul(Op("relax.astype", above), x), Op("relax.where", above, x, _ZERO))


def _exponential(x: Pattern, exponent: Pattern, name: str) -> Pattern:
    """X where x > 0, else alpha * (exp(exponent) - 1), whose sign is that of the exponent.

    TVM's importer writes relu(x) - alpha * relu(1 - exp(exponent)).
    """
    power = Op("relax.exp", exponent)
    minus_one = Either(Op("relax.subtract", power, _ONE), _add(power, Constant(value=-1)))
    flipped = Op("relax.nn.relu", Op("relax.subtract", _ONE, power))
    positive = Constant(f"{name}.alpha", within=(0, math.inf))
    return Either(
        _add(_mul(flipped, _one(name, "-alpha")), relu(x)),
        _where_positive(x, x, _mul(minus_one, _one(name, "alpha"))),
        _given(_where_positive(x, x, minus_one), name, alpha=1),
        _add(relu(x), Op("relax.minimum", _mul(minus_one, positive), _ZERO)),
        _given(_add(relu(x), Op("relax.minimum", minus_one, _ZERO)), name, alpha=1),
    )


def elu(x: Pattern, name: str) -> Pattern:
    """Alpha * (exp(x) - 1) below 0: Clevert et al. 2016, arXiv:1511.07289."""
    return _exponential(x, x, name)


def celu(x: Pattern, name: str) -> Pattern:
    """Alpha * (exp(x / beta) - 1) below 0; alpha = beta in Barron 2017, arXiv:1704.07483."""
    exponent = Either(_div(x, _one(name, "beta")), _mul(x, _one(name, "1/beta")))
    return _exponential(x, exponent, name)


def selu(x: Pattern, name: str) -> Pattern:
    """Gamma * elu(x): Klambauer et al. 2017, arXiv:1706.02515."""
    return _mul(elu(x, name), _one(name, "gamma"))


def gelu(x: Pattern, _name: str) -> Pattern:
    """X * 0.5 * (1 + erf(x / sqrt 2)): Hendrycks and Gimpel 2016, arXiv:1606.08415."""
    root = math.sqrt(2)
    scaled = Either(_div(x, Constant(value=root)), _mul(x, Constant(value=1 / root)))
    written = _product(x, _add(Op("relax.erf", scaled), _ONE), Constant(value=0.5))
    return Either(Op("relax.nn.gelu", x), written)


def gelu_tanh(x: Pattern, _name: str) -> Pattern:
    """X * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))): the same paper, section 2.

    TVM's importer multiplies the brackets out for ONNX Runtime's FastGelu.
    """
    root = math.sqrt(2 / math.pi)
    square = Either(Op("relax.power", x, Constant(value=2)), _mul(x, x))
    cube = Either(Op("relax.power", x, Constant(value=3)), _mul(square, x))
    inner = _mul(_add(x, _mul(cube, Constant(value=0.044715))), Constant(value=root))
    spread = _add(_mul(x, Constant(value=root)), _mul(cube, Constant(value=0.044715 * root)))
    curve = _add(Op("relax.tanh", Either(inner, spread)), _ONE)
    return Either(Op("relax.nn.gelu_tanh", x), _product(x, curve, Constant(value=0.5)))


def silu(x: Pattern, _name: str) -> Pattern:
    """X * sigmoid(x), also x / (1 + exp(-x))."""
    written = _div(x, _one_plus_exp(Op("relax.negative", x)))
    return Either(Op("relax.nn.silu", x), _mul(x, sigmoid(x)), written)


def swish(x: Pattern, name: str) -> Pattern:
    """X * sigmoid(alpha * x): Ramachandran et al. 2017, arXiv:1710.05941; QuickGelu with 1.702."""
    return _mul(x, sigmoid(_scaled(x, name, "alpha")))


def hard_sigmoid(x: Pattern, name: str) -> Pattern:
    """clip(a * x + b, 0, 1), or clip(x + 3, 0, 6) / 6, where a bias may have swallowed the 3."""
    line = _bounded(_add(_scaled(x, name, "alpha"), _one(name, "beta")), 1)
    shifted = _sixth(_bounded(_add(x, Constant(value=3)), 6))
    return Either(
        line,
        _given(shifted, name, alpha=1 / 6, beta=0.5),
        _given(_sixth(_bounded(x, 6)), name, alpha=1 / 6, beta=0),
    )


def hard_swish(x: Pattern, name: str) -> Pattern:
    """X * hard_sigmoid(x): Howard et al. 2019, arXiv:1905.02244; the division anywhere."""
    six = _bounded(_add(x, Constant(value=3)), 6)
    late = Either(_sixth(_mul(x, six)), _mul(_sixth(x), six))
    return Either(_mul(x, hard_sigmoid(x, name)), _given(late, name, alpha=1 / 6, beta=0.5))


def _sixth(x: Pattern) -> Pattern:
    return Either(_div(x, Constant(value=6)), _mul(x, Constant(value=1 / 6)))


def softplus(x: Pattern, _name: str = "") -> Pattern:
    """log(1 + exp(x)), also as max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    small = Op("relax.exp", Op("relax.negative", Op("relax.abs", x)))
    return Either(
        _add(relu(x), Op("relax.log", _add(small, _ONE))), Op("relax.log", _one_plus_exp(x))
    )


def _one_plus_exp(x: Pattern) -> Pattern:
    return _add(Op("relax.exp", x), _ONE)


def mish(x: Pattern, _name: str) -> Pattern:
    """X * tanh(softplus(x)): Misra 2019, arXiv:1908.08681."""
    return _mul(x, Op("relax.tanh", softplus(x)))


def softsign(x: Pattern, _name: str) -> Pattern:
    """X / (1 + |x|)."""
    return _div(x, _add(Op("relax.abs", x), _ONE))


def sigmoid(x: Pattern, _name: str = "") -> Pattern:
    """1 / (1 + exp(-x))."""
    written = _div(_ONE, _one_plus_exp(Op("relax.negative", x)))
    return Either(Op("relax.sigmoid", x), written)


def tanh(x: Pattern, _name: str) -> Pattern:
    """The hyperbolic tangent."""
    return Op("relax.tanh", x)
