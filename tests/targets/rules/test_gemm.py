from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiling import module_of
from tests.examples import examples
from tests.net import Net
from tests.targets.rules.lowering import close, group, run, run_open
from tilewright.ops import GemmSpec, MlpSpec, Step
from tilewright.targets.catalog import CATALOG
from tilewright.targets.rules.gemm import LINEAR

SIZES = st.integers(1, 40)


def _floats(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape, dtype="float32") for shape in shapes]


@settings(max_examples=examples(18), deadline=None)
@given(m=SIZES, n=SIZES, k=SIZES, batch=st.integers(1, 3), seed=st.integers(0, 9))
def test_any_shape(m, n, k, batch, seed):
    x, w, bias, residual = _floats(seed, (batch, m, k), (k, n), (n,), (batch, m, n))
    steps = (Step("bias"), Step("residual"), Step("relu"))
    spec = GemmSpec("float32", x.shape, w.shape, True, epilogue=steps)
    name, y = run(spec, residual.shape, x=x, w=w, bias=bias, residual=residual)
    exact = np.maximum(x.astype("f8") @ w + bias + residual, 0)
    assert name == "linear"
    close(y, exact, k)


def test_every_vector_width():
    x, w = _floats(0, (29, 31), (31, 45))
    for target in CATALOG:
        if target.name in ("x86-64", "x86-64-avx", "x86-64-avx2"):
            _, y = run(GemmSpec("float32", x.shape, w.shape, True), (29, 45), target, x=x, w=w)
            close(y, x.astype("f8") @ w, 31)


def test_pooled_over_an_open_batch():
    x, w = _floats(0, (5, 21, 5, 7), (21, 10))
    spec = GemmSpec("float32", ("n", 21, 5, 7), w.shape, True, pooled=True)
    _, results = run_open(spec, ("n", 10), [{"x": x[:n], "w": w} for n in (1, 5)])
    for n, y in zip((1, 5), results, strict=True):
        close(y, x[:n].astype("f8").mean((2, 3)) @ w, 21)


def test_pooled_over_open_positions(tmp_path):
    net = Net(x=("n", 21, "h", "w"))
    x, w = _floats(0, (2, 21, 33, 47), (21, 10))
    model = net.model(net.MatMul(net.Flatten(net.GlobalAveragePool("x")), net.const(w)))
    module = module_of(model, tmp_path)
    assert "linear" in {kernel["rule"] for kernel in module.manifest["kernels"]}
    for part in (x, x[:1, :, :1, :1], x[:, :, 5:, :9]):
        close(module(part), part.astype("f8").mean((2, 3)) @ w, 21)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6])
@pytest.mark.parametrize(("depth", "n"), [(768, 700), (513, 500), (1024, 264), (1022, 300)])
def test_weights_that_one_tile_reads_from_memory(rows, depth, n):
    x, w, bias = _floats(3, (rows, depth), (depth, n), (n,))
    spec = GemmSpec("float32", x.shape, w.shape, True, epilogue=(Step("bias"),))
    _, y = run(spec, (rows, n), x=x, w=w, bias=bias)
    close(y, x.astype("f8") @ w + bias, depth)


def test_pooled():
    x, w, bias = _floats(0, (3, 21, 5, 7), (21, 10), (10,))
    spec = GemmSpec("float32", x.shape, w.shape, True, pooled=True, epilogue=(Step("bias"),))
    _, y = run(spec, (3, 10), x=x, w=w, bias=bias)
    close(y, x.astype("f8").mean((2, 3)) @ w + bias, 21)


@settings(max_examples=examples(8), deadline=None)
@given(m=SIZES, k=SIZES, hidden=SIZES, n=SIZES, seed=st.integers(0, 9))
def test_any_mlp(m, k, hidden, n, seed):
    x, w1, b1, w2, b2 = _floats(seed, (2, m, k), (k, hidden), (hidden,), (hidden, n), (n,))
    steps = (Step("bias"),)
    spec = MlpSpec("float32", x.shape, hidden, n, Step("relu"), True, False, epilogue=steps)
    name, y = run(spec, (2, m, n), x=x, w1=w1, b1=b1, w2=w2, b2=b2)
    exact = np.maximum(x.astype("f8") @ w1 + b1, 0) @ w2 + b2
    assert name == "mlp"
    close(y, exact, k * hidden)


@settings(max_examples=examples(6), deadline=None)
@given(m=SIZES, k=SIZES, hidden=SIZES, seed=st.integers(0, 9))
def test_any_gated_mlp(m, k, hidden, seed):
    x, w1, w3, w2 = _floats(seed, (1, m, k), (k, hidden), (k, hidden), (hidden, k))
    spec = MlpSpec("float32", x.shape, hidden, k, Step("silu"), False, True)
    _, y = run(spec, x.shape, x=x, w1=w1, w3=w3, w2=w2)
    wide = x.astype("f8")
    up = wide @ w1
    close(y, (up / (1 + np.exp(-up)) * (wide @ w3)) @ w2, k * k * hidden)


@pytest.mark.parametrize("activated", [0, 1])
@pytest.mark.parametrize("bias", [False, True])
def test_gated_mlp_of_one_product(bias, activated):
    x, w1, b1, w2 = _floats(2, (1, 9, 16), (16, 26), (26,), (13, 16))
    spec = MlpSpec("float32", x.shape, 13, 16, Step("silu"), bias, True, bias, activated)
    name, y = run(spec, x.shape, x=x, w1=w1, w2=w2, **({"b1": b1} if bias else {}))
    assert name == "mlp"
    both = np.split(x.astype("f8") @ w1 + (b1 if bias else 0), 2, -1)
    up, gate = both[activated], both[1 - activated]
    close(y, (up / (1 + np.exp(-up)) * gate) @ w2, 13)


def test_refuses_computed_weights():
    spec = GemmSpec("float32", (4, 8), (8, 8), constant_weights=False)
    x, w = _floats(0, (4, 8), (8, 8))
    assert "at run time" in LINEAR.refuses(group(spec, (4, 8), x=x, w=w), CATALOG[0])
