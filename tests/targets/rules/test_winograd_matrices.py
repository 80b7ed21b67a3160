from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import tirx

from tests.targets.rules.lowering import AVX2
from tilewright.targets.rules.registers import PIPELINE
from tilewright.targets.rules.tir import Kernel, seq
from tilewright.targets.rules.winograd_matrices import (
    POINTS,
    combine,
    transformed_weights,
    transforms,
)


@pytest.mark.parametrize("size", POINTS)
def test_the_matrices_make_a_convolution(size):
    t = transforms(size)
    x, w = np.random.default_rng(size).standard_normal((2, t.edge))
    y = t.at @ ((t.g @ w[:3]) * (t.bt @ x))
    np.testing.assert_allclose(y, np.correlate(x, w[:3]), rtol=1e-12)


@pytest.mark.parametrize("size", POINTS)
def test_float32_holds_what_inputs_and_outputs_are_multiplied_by(size):
    t = transforms(size)
    for matrix in (t.bt, t.at):
        np.testing.assert_array_equal(matrix, matrix.astype(np.float32))


def test_weights_are_transformed_on_both_axes():
    w = np.random.default_rng(0).standard_normal((5, 2, 3, 3))
    t = transforms(4)
    u = transformed_weights(w, t)
    assert u.shape == (36, 2, 5)
    np.testing.assert_allclose(u[1 * 6 + 4, 1, 3], t.g[1] @ w[3, 1] @ t.g[4])


@pytest.mark.parametrize("zeros", [(), (0,), (1, 2), (4, 5), range(6)])
@pytest.mark.parametrize("matrix", [transforms(4).bt, transforms(4).at, np.ones((2, 6))])
def test_combine_is_a_product(matrix, zeros):
    kernel = Kernel("main")
    x, y = kernel.param((6,), "float32", "x"), kernel.param((len(matrix),), "float32", "y")
    values = [None if i in zeros else x.load(i) for i in range(6)]
    steps, rows = combine(matrix, values)
    for i, row in enumerate(rows):
        steps.append(y.store(i, tirx.const(0.0, "float32") if row is None else row))
    ours = tvm.runtime.tensor(np.zeros(len(matrix), "float32"))
    data = np.random.default_rng(1).standard_normal(6).astype("float32")
    module = tvm.IRModule({"main": kernel.finish(seq(steps))})
    built = tvm.tirx.build(module, tvm.target.Target(AVX2.tvm_config()), pipeline=PIPELINE)
    built["main"](tvm.runtime.tensor(data), ours)
    data[list(zeros)] = 0
    np.testing.assert_allclose(ours.numpy(), matrix @ data, rtol=1e-5, atol=1e-5)
