from __future__ import annotations

import math

import numpy as np
import pytest
from tvm import tirx

from tests.targets.rules.lowering import run
from tilewright.ops import GemmSpec, Step
from tilewright.targets.rules.epilogue import ELEMENTWISE, Epilogue
from tilewright.targets.rules.tir import Kernel

X = np.float32([[-20, -3, -1.5, -0.25, 0, 0.25, 1, 2.5, 7, 30, 0.5]])
_sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
_erf = np.vectorize(math.erf)
_softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
_elu = lambda x, a: np.where(x > 0, x, a * np.expm1(x))  # noqa: E731
EXACT = {
    "relu": lambda x: np.maximum(x, 0),
    "clip": lambda x, low, high: np.clip(x, low, high),
    "leaky_relu": lambda x, a: np.where(x > 0, x, a * x),
    "thresholded_relu": lambda x, a: np.where(x > a, x, 0),
    "elu": _elu,
    "celu": lambda x, a, b: np.where(x > 0, x, a * np.expm1(x / b)),
    "selu": lambda x, a, g: g * _elu(x, a),
    "gelu": lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x * _sigmoid(x),
    "swish": lambda x, a: x * _sigmoid(a * x),
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "hard_swish": lambda x, a, b: x * np.clip(a * x + b, 0, 1),
    "softplus": _softplus,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "erf": _erf,
    "abs": np.abs,
    "negative": np.negative,
    "square": np.square,
    "sqrt": np.sqrt,
    "add": lambda x, n: x + n,
    "subtract": lambda x, n: x - n,
    "subtract_from": lambda x, n: n - x,
    "multiply": lambda x, n: x * n,
    "divide": lambda x, n: x / n,
    "divide_into": lambda x, n: n / x,
}
NUMBERS = {"clip": (-1.0, 2.0), "hard_sigmoid": (0.25, 0.5), "hard_swish": (1 / 6, 0.5)}
ONE = ("leaky_relu", "thresholded_relu", "elu", "swish")
TWO = ("celu", "selu")
SHIFTS = ("add", "subtract", "subtract_from", "multiply", "divide", "divide_into")


def _step(name: str) -> Step:
    if name in NUMBERS:
        return Step(name, NUMBERS[name])
    return Step(name, (0.75,) * (1 if name in (*ONE, *SHIFTS) else 2 * (name in TWO)))


def test_every_step_is_tested():
    assert set(EXACT) == set(ELEMENTWISE)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_steps(name):
    step = _step(name)
    identity = np.eye(X.shape[1], dtype="float32")
    spec = GemmSpec("float32", X.shape, identity.shape, True, epilogue=(step,))
    _, y = run(spec, X.shape, x=X, w=identity)
    with np.errstate(invalid="ignore", divide="ignore"):
        exact = EXACT[name](X.astype("f8"), *step.parameters)
    np.testing.assert_allclose(y, exact, rtol=2e-6, atol=2e-6)


def test_prelu_has_a_slope_per_column():
    slope = np.linspace(-1, 1, X.shape[1], dtype="float32")
    identity = np.eye(X.shape[1], dtype="float32")
    spec = GemmSpec("float32", X.shape, identity.shape, True, epilogue=(Step("prelu", (-1, 1)),))
    _, y = run(spec, X.shape, x=X, w=identity, **{"activation.slope": slope})
    np.testing.assert_allclose(y, np.where(X > 0, X, slope * X), rtol=1e-6)


def test_refuses_what_it_cannot_do():
    assert "max_pool" in Epilogue.refuses([Step("max_pool", (1,) * 11)], -1)
    assert "negative slope" in Epilogue.refuses([Step("prelu", (-1, -1))], -1)
    assert Epilogue.refuses([Step("bias"), Step("gelu")], None) is None


@pytest.mark.parametrize(
    ("axis", "columns", "taken"), [(-3, -3, 1), (0, -3, 1), (-1, -3, 0), (-1, None, 0)]
)
def test_slopes_must_be_one_per_column(axis, columns, taken):
    refusal = Epilogue.refuses([Step("prelu", (axis, 1))], columns)
    assert refusal is None if taken else "one per column" in refusal


@pytest.mark.parametrize(
    ("names", "begins"),
    [(["bias", "relu"], True), (["bias", "residual", "relu"], False), (["relu", "bias"], False)],
)
def test_a_sum_starts_from_its_bias_where_no_residual_is_waited_for(names, begins):
    kernel = Kernel("main")
    operands = [kernel.param((16,), "float32", name) for name in names if name != "relu"]
    begin = Epilogue([Step(name) for name in names], operands).begin(8, 8)
    assert isinstance(begin, tirx.Broadcast) != begins
