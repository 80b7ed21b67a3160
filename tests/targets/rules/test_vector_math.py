"""The errors that vector_math.py states, measured against float64, with FMA and without."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import tirx
from tvm.tirx import BufferLoad, BufferStore, For, ForKind, IntImm, PrimFunc, Ramp, decl_buffer

from tests.targets.rules.machine_code import built, instructions
from tilewright.targets import resolve
from tilewright.targets.rules import vector_math
from tools.fit_polynomials import FITS, fit

# The machine's own (with FMA, where it has it) and one that never has FMA.
TARGETS = ("native", "x86-64")


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * np.vectorize(math.erfc, otypes=[np.float64])(-x * math.sqrt(0.5))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1.0) / (1.0 + z)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(x))


# Function, exact function, greatest error in ULP, and the least x for which that is stated.
ALL = -math.inf
STATED = {
    "exp": (vector_math.exp, np.exp, 1.2, ALL),
    "expm1": (vector_math.expm1, np.expm1, 1.7, ALL),
    "log": (vector_math.log, np.log, 0.9, ALL),
    "log1p": (vector_math.log1p, np.log1p, 1.6, ALL),
    "tanh": (vector_math.tanh, np.tanh, 3.9, ALL),
    "erf": (vector_math.erf, _erf, 3.9, ALL),
    "sigmoid": (vector_math.sigmoid, _sigmoid, 2.5, -87),
    "softplus": (vector_math.softplus, _softplus, 2.6, ALL),
    "elu": (lambda x: vector_math.elu(x, 1.0), _elu, 1.7, ALL),
    "silu": (vector_math.silu, lambda x: x * _sigmoid(x), 3.3, -87),
    "mish": (vector_math.mish, lambda x: x * np.tanh(_softplus(x)), 4.8, -87),
    "gelu": (vector_math.gelu, _gelu, 4.9, -1),
    "gelu_tanh": (vector_math.gelu_tanh, _gelu_tanh, 3.2, -1),
}


def _loop(function: Callable, size: int, lanes: int) -> PrimFunc:
    """`y = function(x)` over `size` elements, `lanes` at a time."""
    x, y = (decl_buffer((size,), "float32", name) for name in "xy")
    i = tirx.Var("i", "int32")
    place = i if lanes == 1 else Ramp(i * lanes, 1, lanes)
    body = BufferStore(y, function(BufferLoad(x, [place])), [place])
    loop = For(i, IntImm("int32", 0), IntImm("int32", size // lanes), ForKind.SERIAL, body)
    return PrimFunc([x, y], loop).with_attr("tirx.noalias", True)


def _apply(function: Callable, values: np.ndarray, target: str, lanes: int = 8) -> np.ndarray:
    """`function` of all `values`, whose number `lanes` divides, in compiled code."""
    x, y = (tvm.runtime.tensor(v) for v in (values, np.zeros_like(values)))
    built(_loop(function, len(values), lanes), target)["main"](x, y)
    return y.numpy()


def _sweep() -> np.ndarray:
    """2.8 million values: every exponent and sign, and more where something happens."""
    patterns = np.arange(0, 1 << 32, 4093, dtype=np.uint64).astype(np.uint32).view(np.float32)
    wide, near = np.linspace(-110, 95, 600_000), np.linspace(-11, 11, 1_200_000)
    values = np.concatenate([patterns, wide.astype(np.float32), near.astype(np.float32)])
    return values[: len(values) // 16 * 16]


SWEEP = _sweep()


def _ulps(answer: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Errors in ULP of the exact results; infinite where only one is finite or a number."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(np.float32)
        errors = np.abs(answer - exact) / np.spacing(np.abs(rounded)).astype(np.float64)
        same = (answer == rounded) | (np.isnan(answer) & np.isnan(rounded))
    return np.where(
        same, np.nan_to_num(errors, nan=0.0, posinf=0.0), np.nan_to_num(errors, nan=math.inf)
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", STATED)
def test_the_stated_error_holds(name, target):
    function, exact, most, least_x = STATED[name]
    values = SWEEP[~(least_x > SWEEP)]
    values = values[: len(values) // 8 * 8]
    with np.errstate(all="ignore"):
        errors = _ulps(_apply(function, values, target), exact(values.astype(np.float64)))
    worst = errors.argmax()
    assert errors[worst] <= most, f"{errors[worst]} ULP at {values[worst]!r}"
    # A bound that is far off says nothing about the code.
    assert errors[worst] > most / 2


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "mish"])
def test_products_with_x_have_small_absolute_errors(name, target):
    function, exact, *_ = STATED[name]
    values = SWEEP[np.isfinite(SWEEP)]
    values = values[: len(values) // 8 * 8]
    with np.errstate(all="ignore"):
        errors = np.abs(_apply(function, values, target) - exact(values.astype(np.float64)))
    assert (errors / np.maximum(1, np.abs(values))).max() <= 1.6e-7


def test_exp_of_nonpositive_values_is_that_of_all():
    values = SWEEP[: len(SWEEP) // 8 * 8]
    values = np.where(values > 0, -values, values)
    answer = _apply(vector_math.exp_nonpositive, values, "native")
    np.testing.assert_array_equal(answer, _apply(vector_math.exp, values, "native"))


@pytest.mark.parametrize("name", ["tanh", "erf", "sigmoid"])
def test_never_leaves_its_range(name):
    answer = _apply(STATED[name][0], SWEEP, "native")
    answer = answer[~np.isnan(answer)]
    assert answer.max() == 1.0 and answer.min() == (0.0 if name == "sigmoid" else -1.0)


INF, NAN = math.inf, math.nan
SPECIAL = (NAN, INF, -INF, 0.0, -0.0, 1e-45, 3e38, -3e38)
AT_SPECIAL = {
    "exp": (NAN, INF, 0.0, 1.0, 1.0, 1.0, INF, 0.0),
    "exp_nonpositive": (NAN, None, 0.0, 1.0, 1.0, None, None, 0.0),
    # Half of the least subnormal rounds to 0: an error of 1 ULP.
    "expm1": (NAN, INF, -1.0, 0.0, 0.0, 0.0, INF, -1.0),
    "log": (NAN, INF, NAN, -INF, -INF, -103.27893, 88.59685, NAN),
    "log1p": (NAN, INF, NAN, 0.0, 0.0, 1e-45, 88.59685, NAN),
    "tanh": (NAN, 1.0, -1.0, 0.0, -0.0, 1e-45, 1.0, -1.0),
    "erf": (NAN, 1.0, -1.0, 0.0, -0.0, 1e-45, 1.0, -1.0),
    "sigmoid": (NAN, 1.0, 0.0, 0.5, 0.5, 0.5, 1.0, 0.0),
    "softplus": (NAN, INF, 0.0, 0.6931472, 0.6931472, 0.6931472, 3e38, 0.0),
    "elu": (NAN, INF, -1.0, 0.0, 0.0, 1e-45, 3e38, -1.0),
    # -inf: as ONNX Runtime's.
    "silu": (NAN, INF, NAN, 0.0, -0.0, 0.0, 3e38, -0.0),
    "mish": (NAN, INF, NAN, 0.0, -0.0, 1e-45, 3e38, -0.0),
    "gelu": (NAN, INF, NAN, 0.0, -0.0, 0.0, 3e38, -0.0),
    "gelu_tanh": (NAN, INF, NAN, 0.0, -0.0, 0.0, 3e38, -0.0),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", AT_SPECIAL)
def test_special_values(name, target):
    function = STATED[name][0] if name in STATED else getattr(vector_math, name)
    answer = _apply(function, np.array(SPECIAL, np.float32), target)
    checked = [n for n, value in enumerate(AT_SPECIAL[name]) if value is not None]
    expected = np.array([AT_SPECIAL[name][n] for n in checked], np.float32)
    np.testing.assert_array_equal(answer[checked], expected)
    if name in ("tanh", "erf"):
        np.testing.assert_array_equal(np.signbit(answer[3:5]), [False, True])


def test_a_nan_stays_one_whatever_its_payload():
    # Its bits reach the integer arithmetic.
    payloads = np.arange(0x7F800001, 0x7FFFFFFF, 1021, dtype=np.uint32)
    values = np.concatenate([payloads, payloads | np.uint32(1 << 31)]).view(np.float32)
    values = values[: len(values) // 8 * 8]
    for name, (function, *_) in STATED.items():
        assert np.isnan(_apply(function, values, "native")).all(), name


@pytest.mark.parametrize("name", STATED)
@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
def test_every_length_of_vector_gives_the_same(name, lanes):
    values = SWEEP[: 1 << 18]
    # Without FMA, since LLVM may fuse a scalar's operations differently.
    answer = _apply(STATED[name][0], values, "x86-64", lanes)
    np.testing.assert_array_equal(answer, _apply(STATED[name][0], values, "x86-64"))


@pytest.mark.parametrize("name", STATED)
def test_there_is_vector_code_for_every_width(name):
    function = STATED[name][0]
    code = {row: instructions(_loop(function, 4096, 16), row) for row in WIDTHS}
    for row, (register, fma) in WIDTHS.items():
        assert any(register in line for line in code[row]), row
        assert any(re.match(r"vfn?m(add|sub)\d+ps", line) for line in code[row]) == fma, row
        # One lane at a time: what LLVM does where it has no vector form.
        assert not [line for line in code[row] if re.match(r"v?(mul|add|div|fmadd)\w*ss\b", line)]


# Target: its registers and whether it has FMA.
WIDTHS = {
    "x86-64": ("xmm", False),
    "x86-64-avx": ("ymm", False),
    "x86-64-avx2": ("ymm", True),
    "x86-64-avx512": ("zmm", True),
}


def test_every_width_is_a_target():
    assert {resolve(name).vector_bits for name in WIDTHS} == {128, 256, 512}


def test_an_argument_is_computed_once():
    x = decl_buffer((8,), "float32", "x")
    for name, (function, *_) in STATED.items():
        text = function(tirx.sqrt(BufferLoad(x, [IntImm("int32", 0)]))).script()
        assert text.count("sqrt") == 1, name


@pytest.mark.parametrize("task", FITS, ids=lambda task: task.name)
def test_the_coefficients_are_those_of_the_fit(task):
    above, below, error = fit(task)
    # Least squares differ in the last bits from one LAPACK to the next.
    np.testing.assert_allclose(getattr(vector_math, f"_{task.name}"), above, rtol=2e-3)
    if task.denominator:
        np.testing.assert_allclose(getattr(vector_math, f"_{task.name}_BELOW"), below, rtol=2e-3)
    assert error < 2.0**-25
