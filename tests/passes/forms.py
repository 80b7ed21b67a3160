"""Activations in the forms that exporters write them in: name in the report -> forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from tests.net import CONTRIB, Net

Form = Callable[[Net, str], str]
ROOT, CURVE = math.sqrt(2), math.sqrt(2 / math.pi)


def _erf(n: Net, x: str) -> str:
    return n.Add(n.Erf(n.Div(x, ROOT)), 1.0)


def _erf_of_product(n: Net, x: str) -> str:
    return n.Add(1.0, n.Erf(n.Mul(math.sqrt(0.5), x)))


def _curve(n: Net, x: str, cube: str) -> str:
    return n.Add(n.Tanh(n.Mul(n.Add(x, n.Mul(cube, 0.044715)), CURVE)), 1.0)


def _cube(n: Net, x: str) -> str:
    return n.Mul(n.Mul(x, x), x)


def _six(n: Net, x: str, first: bool = True) -> str:
    return n.Clip(n.Add(x, 3.0) if first else n.Add(3.0, x), 0.0, 6.0)


FORMS: dict[str, dict[str, Form]] = {
    "relu": {
        "native": lambda n, x: n.Relu(x),
        "max": lambda n, x: n.Max(x, 0.0),
        "max_zero_first": lambda n, x: n.Max(0.0, x),
    },
    "clip": {
        "relu6": lambda n, x: n.Clip(x, 0.0, 6.0),
        "below": lambda n, x: n.Clip(x, -0.5),
        "above": lambda n, x: n.Clip(x, "", 0.5),
        "min_of_max": lambda n, x: n.Min(n.Max(x, -0.25), 0.5),
        "max_of_min": lambda n, x: n.Max(-0.25, n.Min(0.5, x)),
        "min_of_relu": lambda n, x: n.Min(n.Relu(x), 0.5),
    },
    "leaky_relu": {"native": lambda n, x: n.LeakyRelu(x, alpha=0.2)},
    "prelu": {
        "one_slope": lambda n, x: n.PRelu(x, n.const([0.2])),
    },
    "elu": {
        "native": lambda n, x: n.Elu(x),
        "alpha": lambda n, x: n.Elu(x, alpha=0.3),
    },
    "gelu": {
        "native": lambda n, x: n.Gelu(x),
        "half_last": lambda n, x: n.Mul(n.Mul(x, _erf(n, x)), 0.5),
        "half_first": lambda n, x: n.Mul(n.Mul(0.5, x), _erf(n, x)),
        "half_in_curve": lambda n, x: n.Mul(n.Mul(_erf_of_product(n, x), 0.5), x),
        "product": lambda n, x: n.Mul(x, n.Mul(0.5, _erf_of_product(n, x))),
    },
    "gelu_tanh": {
        "native": lambda n, x: n.Gelu(x, approximate="tanh"),
        "contrib": lambda n, x: n.FastGelu(x, domain=CONTRIB),
        "pow": lambda n, x: n.Mul(n.Mul(x, 0.5), _curve(n, x, n.Pow(x, 3.0))),
        "mul": lambda n, x: n.Mul(0.5, n.Mul(x, _curve(n, x, _cube(n, x)))),
        "square": lambda n, x: n.Mul(n.Mul(0.5, x), _curve(n, x, n.Mul(x, n.Pow(x, 2.0)))),
    },
    "silu": {
        "after": lambda n, x: n.Mul(x, n.Sigmoid(x)),
        "before": lambda n, x: n.Mul(n.Sigmoid(x), x),
    },
    "hard_swish": {
        "native": lambda n, x: n.HardSwish(x),
        "hard_sigmoid": lambda n, x: n.Mul(x, n.HardSigmoid(x, alpha=1 / 6)),
        "hard_sigmoid_first": lambda n, x: n.Mul(n.HardSigmoid(x, alpha=1 / 6), x),
        "clip_div": lambda n, x: n.Mul(x, n.Div(_six(n, x), 6.0)),
        "clip_mul": lambda n, x: n.Mul(n.Mul(_six(n, x, False), 1 / 6), x),
        "late_div": lambda n, x: n.Div(n.Mul(x, _six(n, x)), 6.0),
        "late_mul": lambda n, x: n.Mul(1 / 6, n.Mul(_six(n, x, False), x)),
    },
    "hard_sigmoid": {
        "native": lambda n, x: n.HardSigmoid(x),
        "clip_div": lambda n, x: n.Div(_six(n, x), 6.0),
        "clip_mul": lambda n, x: n.Mul(1 / 6, _six(n, x, False)),
        "line": lambda n, x: n.Clip(n.Add(0.5, n.Mul(0.2, x)), 0.0, 1.0),
    },
    "mish": {
        "native": lambda n, x: n.Mish(x),
        "softplus": lambda n, x: n.Mul(x, n.Tanh(n.Softplus(x))),
        "written": lambda n, x: n.Mul(n.Tanh(n.Log(n.Add(n.Exp(x), 1.0))), x),
    },
    "softplus": {
        "native": lambda n, x: n.Softplus(x),
        "written": lambda n, x: n.Log(n.Add(1.0, n.Exp(x))),
    },
    "sigmoid": {"native": lambda n, x: n.Sigmoid(x)},
    "tanh": {"native": lambda n, x: n.Tanh(x)},
}


def every_form() -> Iterator[tuple[str, str, Form]]:
    """Name in the report, name of the form, form."""
    for name, forms in FORMS.items():
        for kind, form in forms.items():
            yield name, kind, form
