from __future__ import annotations

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx

from tests.targets.rules.lowering import AVX2
from tilewright.targets.rules import vector_math
from tilewright.targets.rules.named_values import keep_named
from tilewright.targets.rules.registers import PIPELINE
from tilewright.targets.rules.tir import Kernel, loop

X = np.arange(-4, 4, dtype="float32")


def _kernel(value) -> tirx.PrimFunc:
    """y[i] = value(x, i), for 8 elements."""
    kernel = Kernel("main")
    x, y = kernel.param(X.shape, "float32", "x"), kernel.param(X.shape, "float32", "y")
    return kernel.finish(loop(8, lambda i: y.store(i, value(x, i)), "i"))


def _run(function: tirx.PrimFunc) -> np.ndarray:
    config = tvm.target.Target(AVX2.tvm_config())
    module = tvm.tirx.build(tvm.IRModule({"main": function}), config, pipeline=PIPELINE)
    out = tvm.runtime.tensor(np.zeros_like(X))
    module["main"](tvm.runtime.tensor(X), out)
    return out.numpy()


def _lets(function: tirx.PrimFunc) -> int:
    found = []
    tvm_ffi.structural_map(function, (tirx.Let, lambda let: found.append(let) or let))
    return len(found)


def test_what_stores_name_is_in_registers():
    def named(x, i):
        a, b = tirx.Var("a", "float32"), tirx.Var("b", "float32")
        inner = tirx.Let(b, a + 1.0, b * b)
        return tirx.Let(a, x.load(i) * 2.0, inner + a)

    function = keep_named(_kernel(named))
    assert _lets(function) == 0
    np.testing.assert_array_equal(_run(function), (X * 2 + 1) ** 2 + X * 2)


def test_one_name_for_two_values():
    a = tirx.Var("a", "float32")

    def named(x, i):
        return tirx.Let(a, x.load(i), a * a) + tirx.Let(a, x.load(i) + 1.0, a * a)

    np.testing.assert_array_equal(_run(keep_named(_kernel(named))), X**2 + (X + 1) ** 2)


def test_what_may_not_be_evaluated_stays_where_it_is():
    a = tirx.Var("a", "float32")

    def named(x, i):
        return tirx.if_then_else(i < 7, tirx.Let(a, x.load(i + 1), a * a), tirx.const(0.0))

    function = keep_named(_kernel(named))
    assert _lets(function) == 1
    np.testing.assert_array_equal(_run(function), np.append(X[1:] ** 2, np.float32(0)))


def test_a_long_chain_of_polynomials_builds_at_once():
    """Its size as code grows with its length; as one expression it would double at each step."""

    def chain(x, i):
        value = x.load(i)
        for _ in range(40):
            value = vector_math.sigmoid(value)
        return value

    exact = X.astype("f8")
    for _ in range(40):
        exact = 1 / (1 + np.exp(-exact))
    np.testing.assert_allclose(_run(_kernel(chain)), exact, rtol=1e-6)
