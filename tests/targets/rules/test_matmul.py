from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import AVX2, close, group, run, run_group
from tilewright.ops import GemmSpec, Step
from tilewright.targets.rules.catalogue import lower
from tilewright.targets.rules.rule import Argument


def of_values(spec, shape, **arrays):
    """The rule and its result, of a w that only a run tells."""
    call = group(spec, shape, **arrays)
    place = call.roles["w"]
    arguments = list(call.arguments)
    arguments[place] = Argument(arrays["w"].shape, "float32", None)
    return run_group(dataclasses.replace(call, arguments=tuple(arguments)), arrays)


@settings(max_examples=examples(20), deadline=None)
@given(
    batch=st.sampled_from([(), (1,), (3,), (2, 3)]),
    shared=st.booleans(),
    m=st.integers(1, 40),
    k=st.integers(1, 70),
    n=st.integers(1, 70),
    seed=st.integers(0, 9),
)
def test_any_product(batch, shared, m, k, n, seed):
    own = (1,) * len(batch) if shared else batch
    x, w, bias = floats(seed, (*batch, m, k), (*own, k, n), (n,))
    spec = GemmSpec("float32", x.shape, w.shape, False, epilogue=(Step("bias"), Step("relu")))
    name, y = of_values(spec, (*batch, m, n), x=x, w=w, bias=bias)
    assert name == "matmul"
    close(y, np.maximum(x.astype("f8") @ w + bias, 0), k)


@pytest.mark.parametrize(("m", "k", "n"), [(130, 300, 200), (7, 1030, 33), (200, 64, 197)])
def test_many_tiles_and_long_sums(m, k, n):
    x, w = floats(0, (3, m, k), (3, k, n))
    _, y = of_values(GemmSpec("float32", x.shape, w.shape, False), (3, m, n), x=x, w=w)
    close(y, x.astype("f8") @ w, k)


@pytest.mark.parametrize(
    ("m", "k", "n", "kernels"), [(4, 300, 400, 1), (16, 16, 16, 1), (40, 100, 130, 2)]
)
def test_w_is_packed_where_that_pays(m, k, n, kernels):
    x, w = floats(0, (3, m, k), (3, k, n))
    call = group(GemmSpec("float32", x.shape, w.shape, False), (3, m, n), x=x, w=w)
    arguments = tuple(Argument(a.shape, "float32") for a in (x, w))
    _, lowered = lower(dataclasses.replace(call, arguments=arguments), AVX2)
    assert len(lowered.launches) == kernels


def test_a_batch_of_weights_that_are_known():
    x, w = floats(0, (4, 9, 20), (4, 20, 33))
    name, y = run(GemmSpec("float32", x.shape, w.shape, True), (4, 9, 33), x=x, w=w)
    assert name == "matmul"
    close(y, x.astype("f8") @ w, 20)


@pytest.mark.parametrize(
    ("x", "w", "why"),
    [
        ((3, 4, 5), (2, 1, 5, 6), "broadcast"),
        ((2, 1, 4, 5), (2, 3, 5, 6), "broadcast"),
        ((2, "m", 5), (2, 5, 6), "open"),
        ((2, 0, 5), (2, 5, 6), "nothing"),
    ],
)
def test_refusals(x, w, why):
    spec = GemmSpec("float32", x, w, False)
    values = floats(0, *[[n if isinstance(n, int) else 2 for n in shape] for shape in (x, w)])
    call = group(spec, (2, 2), x=values[0], w=values[1])
    assert why in lower(call, AVX2)["matmul"]
