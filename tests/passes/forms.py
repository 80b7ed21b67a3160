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


def _down(n: Net, x: str) -> str:
    return n.Relu(n.Neg(x))


def _grown(n: Net, x: str, alpha: float) -> str:
    return n.Mul(n.Sub(n.Exp(x), 1.0), alpha)


def _relu6(n: Net, x: str) -> str:
    return n.Min(n.Relu(n.Add(x, 3.0)), 6.0)


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
    "leaky_relu": {
        "native": lambda n, x: n.LeakyRelu(x, alpha=0.2),
        "max": lambda n, x: n.Max(n.Mul(0.2, x), x),
        "where": lambda n, x: n.Where(n.Greater(x, 0.0), x, n.Mul(x, 0.2)),
        "where_below": lambda n, x: n.Where(n.Less(x, 0.0), n.Mul(x, 0.2), x),
        "minus": lambda n, x: n.Sub(n.Relu(x), n.Mul(0.2, _down(n, x))),
        "minus_folded": lambda n, x: n.Add(n.Mul(-0.2, _down(n, x)), n.Relu(x)),
        "minus_inside": lambda n, x: n.Add(n.Relu(x), n.Mul(0.2, n.Neg(_down(n, x)))),
        "minus_last": lambda n, x: n.Add(n.Relu(x), n.Neg(n.Mul(0.2, _down(n, x)))),
        "by_product": lambda n, x: n.Sub(n.Relu(x), n.Mul(n.Relu(n.Mul(x, -1.0)), 0.2)),
    },
    "prelu": {
        "one_slope": lambda n, x: n.PRelu(x, n.const([0.2])),
    },
    "elu": {
        "native": lambda n, x: n.Elu(x),
        "alpha": lambda n, x: n.Elu(x, alpha=0.3),
        "where": lambda n, x: n.Where(n.Greater(x, 0.0), x, _grown(n, x, 0.3)),
        "where_one": lambda n, x: n.Where(n.Greater(x, 0.0), x, n.Sub(n.Exp(x), 1.0)),
        "min": lambda n, x: n.Add(n.Relu(x), n.Min(_grown(n, x, 0.3), 0.0)),
        "min_one": lambda n, x: n.Add(n.Max(x, 0.0), n.Min(0.0, n.Add(n.Exp(x), -1.0))),
    },
    "celu": {
        "native": lambda n, x: n.Celu(x, alpha=0.3),
        "quotient": lambda n, x: n.Add(n.Relu(x), n.Min(_grown(n, n.Div(x, 0.3), 0.3), 0.0)),
        "product": lambda n, x: n.Where(n.Less(x, 0.0), _grown(n, n.Mul(x, 1 / 0.3), 0.3), x),
    },
    "selu": {
        "native": lambda n, x: n.Selu(x, alpha=1.5, gamma=1.25),
        "where": lambda n, x: n.Mul(1.25, n.Where(n.Greater(x, 0.0), x, _grown(n, x, 1.5))),
        "min": lambda n, x: n.Mul(n.Add(n.Relu(x), n.Min(_grown(n, x, 1.5), 0.0)), 1.25),
    },
    "thresholded_relu": {
        "native": lambda n, x: n.ThresholdedRelu(x, alpha=0.3),
        "where": lambda n, x: n.Where(n.Greater(x, 0.3), x, 0.0),
    },
    "gelu": {
        "native": lambda n, x: n.Gelu(x),
        "contrib": lambda n, x: n.Gelu(x, domain=CONTRIB),
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
        "contrib": lambda n, x: n.QuickGelu(x, alpha=1.0, domain=CONTRIB),
        "written": lambda n, x: n.Div(x, n.Add(1.0, n.Exp(n.Neg(x)))),
    },
    "swish": {
        "contrib": lambda n, x: n.QuickGelu(x, domain=CONTRIB),
        "after": lambda n, x: n.Mul(x, n.Sigmoid(n.Mul(x, 1.702))),
        "before": lambda n, x: n.Mul(n.Sigmoid(n.Mul(1.702, x)), x),
        "quotient": lambda n, x: n.Mul(x, n.Sigmoid(n.Div(x, 1 / 1.702))),
    },
    "hard_swish": {
        "native": lambda n, x: n.HardSwish(x),
        "hard_sigmoid": lambda n, x: n.Mul(x, n.HardSigmoid(x, alpha=1 / 6)),
        "hard_sigmoid_first": lambda n, x: n.Mul(n.HardSigmoid(x, alpha=1 / 6), x),
        "clip_div": lambda n, x: n.Mul(x, n.Div(_six(n, x), 6.0)),
        "clip_mul": lambda n, x: n.Mul(n.Mul(_six(n, x, False), 1 / 6), x),
        "late_div": lambda n, x: n.Div(n.Mul(x, _six(n, x)), 6.0),
        "late_mul": lambda n, x: n.Mul(1 / 6, n.Mul(_six(n, x, False), x)),
        "relu6": lambda n, x: n.Mul(x, n.Mul(_relu6(n, x), 1 / 6)),
        "early_mul": lambda n, x: n.Mul(n.Mul(x, 1 / 6), _relu6(n, x)),
        "early_div": lambda n, x: n.Mul(n.Div(x, 6.0), _six(n, x)),
    },
    "hard_sigmoid": {
        "native": lambda n, x: n.HardSigmoid(x),
        "clip_div": lambda n, x: n.Div(_six(n, x), 6.0),
        "clip_mul": lambda n, x: n.Mul(1 / 6, _six(n, x, False)),
        "line": lambda n, x: n.Clip(n.Add(0.5, n.Mul(0.2, x)), 0.0, 1.0),
        "line_max_min": lambda n, x: n.Max(n.Min(n.Add(n.Mul(x, 0.2), 0.5), 1.0), 0.0),
        "relu6": lambda n, x: n.Mul(_relu6(n, x), 1 / 6),
        "line_div": lambda n, x: n.Clip(n.Add(n.Div(x, 6.0), 0.5), 0.0, 1.0),
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
    "softsign": {
        "native": lambda n, x: n.Softsign(x),
        "written": lambda n, x: n.Div(x, n.Add(1.0, n.Abs(x))),
    },
    "sigmoid": {
        "native": lambda n, x: n.Sigmoid(x),
        "written": lambda n, x: n.Div(1.0, n.Add(1.0, n.Exp(n.Neg(x)))),
    },
    "tanh": {"native": lambda n, x: n.Tanh(x)},
}


def every_form() -> Iterator[tuple[str, str, Form]]:
    """Name in the report, name of the form, form."""
    for name, forms in FORMS.items():
        for kind, form in forms.items():
            yield name, kind, form
