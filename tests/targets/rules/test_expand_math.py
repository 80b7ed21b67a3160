from __future__ import annotations

import math

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import Schedule

from tests.targets.rules.machine_code import built, instructions
from tilewright.targets import resolve
from tilewright.targets.rules.expand_math import expand_math
from tilewright.targets.rules.fallback import schedule

AVX2 = "x86-64-avx2"
CALLS = {
    "exp": (te.exp, np.exp),
    "log": (te.log, np.log),
    "tanh": (te.tanh, np.tanh),
    "erf": (te.erf, np.vectorize(math.erf, otypes=[np.float64])),
    "sigmoid": (te.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
}


def _kernel(call, dtype: str = "float32") -> tirx.PrimFunc:
    x = te.placeholder((64, 96), dtype, "x")
    return te.create_prim_func([x, te.compute(x.shape, lambda i, j: call(x[i, j]), "y")])


def _calls(function: tirx.PrimFunc, target: str) -> list[str]:
    """Functions of libm that the kernel calls, directly or through a pointer."""
    code = "\n".join(instructions(function, target))
    return [name for name in ("expf", "logf", "tanhf", "erff") if name in code]


@pytest.mark.parametrize("name", CALLS)
def test_a_scheduled_kernel_is_vectorised_by_llvm(name):
    plain, _ = schedule(_kernel(CALLS[name][0]), resolve(AVX2))
    assert _calls(plain, AVX2), "nothing to replace: the test shows nothing"
    expanded = expand_math(plain)
    assert not _calls(expanded, AVX2)
    assert any(li.startswith("vfmadd") and "ymm" in li for li in instructions(expanded, AVX2))


def _without_nan(x: tirx.Expr) -> tirx.Expr:
    return tirx.Select(tirx.isnan(x), tirx.const(7, "float32"), x)


def test_what_is_nan_is_seen_in_vectors():
    scheduled, _ = schedule(_kernel(_without_nan), resolve(AVX2))
    kernel = expand_math(scheduled)
    assert any("cmp" in line and "ymm" in line for line in instructions(kernel, AVX2))
    values = np.random.default_rng(4).standard_normal((64, 96)).astype(np.float32)
    values.flat[:6] = (np.nan, -np.nan, np.inf, -np.inf, 0, 1e-45)
    x, y = (tvm.runtime.tensor(v) for v in (values, np.zeros_like(values)))
    built(kernel, AVX2)["main"](x, y)
    wanted = np.where(np.isnan(values), np.float32(7), values)
    np.testing.assert_array_equal(y.numpy(), wanted)


@pytest.mark.parametrize("pick, exact", [(tirx.max, np.maximum), (tirx.min, np.minimum)])
def test_the_larger_and_the_smaller_keep_nan(pick, exact):
    values = np.random.default_rng(4).standard_normal((64, 96)).astype(np.float32)
    values.flat[:8] = (np.nan, 1, np.inf, -np.inf, np.nan, np.inf, -np.nan, -np.inf)

    def compute(x: tirx.Expr) -> tirx.Expr:
        other = tirx.const(0.25, "float32")
        return tirx.Select(tirx.isnan(x), x, pick(x, other))

    scheduled, _ = schedule(_kernel(compute), resolve(AVX2))
    kernel = expand_math(scheduled)
    code = instructions(kernel, AVX2)
    assert any(line.startswith(("vmaxps", "vminps")) and "ymm" in line for line in code)
    x, y = (tvm.runtime.tensor(v) for v in (values, np.zeros_like(values)))
    built(kernel, AVX2)["main"](x, y)
    np.testing.assert_array_equal(y.numpy(), exact(values, np.float32(0.25)))


@pytest.mark.parametrize("name", CALLS)
def test_keeps_the_numbers(name):
    call, exact = CALLS[name]
    kernel, _ = schedule(_kernel(call), resolve("native"))
    values = np.random.default_rng(4).uniform(0.1, 4, (64, 96)).astype(np.float32)
    x, y = (tvm.runtime.tensor(v) for v in (values, np.zeros_like(values)))
    built(expand_math(kernel), "native")["main"](x, y)
    # 4 ULP: what vector_math.py states for the worst of them.
    np.testing.assert_allclose(
        y.numpy(), exact(values.astype(np.float64)), rtol=4 * 2**-23, atol=2e-8
    )


def test_the_logarithm_of_a_little_more_than_one():
    values = np.linspace(-20, -5, 64 * 96, dtype=np.float32).reshape(64, 96)
    x, y = (tvm.runtime.tensor(v) for v in (values, np.zeros_like(values)))
    kernel = expand_math(_kernel(lambda x: te.log(te.exp(x) + 1.0)))
    built(kernel, "native")["main"](x, y)
    np.testing.assert_allclose(y.numpy(), np.log1p(np.exp(values.astype(np.float64))), rtol=4e-7)


def test_a_vectorised_loop_stays_one():
    sch = Schedule(_kernel(te.tanh))
    _, column = sch.get_loops("y")
    sch.vectorize(sch.split(column, [None, 8])[1])
    code = instructions(expand_math(sch.mod["main"]), AVX2)
    assert any(li.startswith("vdivps") and "ymm" in li for li in code)
    assert not [li for li in code if li.startswith("vdivss")]


def test_expands_calls_within_calls():
    text = expand_math(_kernel(lambda x: te.exp(te.tanh(x) + te.log(x)))).script()
    assert not any(f"T.{name}(" in text for name in CALLS)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_leaves_other_types_alone(dtype):
    kernel = _kernel(te.exp, dtype)
    tvm.ir.assert_structural_equal(expand_math(kernel), kernel)


def test_leaves_other_calls_alone():
    kernel = _kernel(te.sqrt)
    tvm.ir.assert_structural_equal(expand_math(kernel), kernel)


def test_keeps_the_attributes():
    kernel = _kernel(te.exp).with_attr("global_symbol", "kernel")
    assert dict(expand_math(kernel).attrs) == dict(kernel.attrs)


def _power(exponent: float, dtype: str) -> tirx.PrimFunc:
    def call(x: tirx.Expr) -> tirx.Expr:
        return tirx.call_intrin(dtype, "tirx.pow", x, tirx.const(exponent, dtype))

    return schedule(_kernel(call, dtype), resolve(AVX2))[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", range(2, 9))
def test_whole_powers_are_products(exponent, dtype):
    kernel = expand_math(_power(exponent, dtype))
    code = "\n".join(instructions(kernel, AVX2))
    assert "pow" not in code and "vmulp" in code
    values = np.random.default_rng(4).standard_normal((64, 96)).astype(dtype)
    values.flat[:4] = (np.nan, np.inf, -np.inf, 0)
    x, y = (tvm.runtime.tensor(v) for v in (values, np.zeros_like(values)))
    built(kernel, AVX2)["main"](x, y)
    wanted = values.astype("f8") ** exponent
    np.testing.assert_allclose(y.numpy(), wanted, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("exponent", [0.5, 2.5, 9.0, -2.0])
def test_other_powers_are_left_alone(exponent):
    plain = _power(exponent, "float32")
    assert tvm_ffi.structural_equal(expand_math(plain), plain)
