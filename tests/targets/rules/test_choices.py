from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import te, tirx

from tests.targets.rules.lowering import AVX2
from tests.targets.rules.machine_code import built, instructions
from tilewright.targets.rules.choices import read_both_sides
from tilewright.targets.rules.fallback import schedule

SIZE = 96


def _kernel(element: Callable[[te.Tensor, te.Tensor, tirx.Var], tirx.Expr]) -> tirx.PrimFunc:
    """y[i, j] = element(x, s, j) of a row x of SIZE and a number s, scheduled."""
    x, s = te.placeholder((64, SIZE), name="x"), te.placeholder((1,), name="s")
    y = te.compute(x.shape, lambda i, j: element(lambda at: x[i, at], s, j), name="y")
    function = te.create_prim_func([x, s, y]).with_attr("tirx.noalias", True)
    return schedule(function, AVX2)[0]


def _leaky(x, s, j):
    return tirx.Select(x(j) > 0, x(j), x(j) * s[0])


def _nested(x, s, j):
    return tirx.Select(x(j) > 1, x(j), tirx.Select(x(j) < s[0], s[0], x(j) * x(j)))


CHOICES = {
    "leaky": (_leaky, lambda x, s: np.where(x > 0, x, x * s)),
    "nested": (_nested, lambda x, s: np.where(x > 1, x, np.where(x < s, s, x * x))),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_made_in_vectors(name):
    element, wanted = CHOICES[name]
    plain = _kernel(element)
    kernel = read_both_sides(plain)
    branches, vectors = (
        sum(
            any(word in line for word in ("ucomis", "vcomis"))
            for line in instructions(k, AVX2.name)
        )
        for k in (plain, kernel)
    )
    assert branches and not vectors
    assert any(line.startswith("vblend") for line in instructions(kernel, AVX2.name))
    x = np.random.default_rng(1).standard_normal((64, SIZE)).astype(np.float32)
    x.flat[:3] = (np.nan, np.inf, -np.inf)
    s = np.array([0.25], np.float32)
    tensors = [tvm.runtime.tensor(a) for a in (x, s, np.zeros_like(x))]
    built(kernel, AVX2.name)["main"](*tensors)
    np.testing.assert_array_equal(tensors[2].numpy(), wanted(x, s).astype(np.float32))


def _guarded(x, s, j):
    return tirx.Select(j < SIZE - 1, x(j + 1), s[0])


def _conditional(x, s, j):
    return tirx.if_then_else(j > 0, tirx.Select(x(j - 1) > 0, x(j - 1), s[0]), s[0])


def _computed(x, s, j):
    place = tirx.Cast("int32", x(j))
    return tirx.Select(tirx.all(place >= 0, place < SIZE), x(place), s[0])


@pytest.mark.parametrize("element", [_guarded, _conditional, _computed])
def test_what_may_be_outside_is_read_where_it_was(element):
    """Beside it, what is inside may be named; the place that is guarded is not."""
    kernel = read_both_sides(_kernel(element))
    named: list[tirx.Expr] = []
    tvm_ffi.structural_walk(kernel, (tirx.Let, lambda let: named.append(let.value)))
    assert {str(load.indices[-1]) for load in named} <= {"0", "v_j"}


def test_open_sizes():
    n = te.var("n", "int64")
    x, s = te.placeholder((n,), name="x"), te.placeholder((1,), name="s")
    y = te.compute(x.shape, lambda i: tirx.Select(x[i] > 0, x[i], x[i] * s[0]), name="y")
    plain = schedule(te.create_prim_func([x, s, y]), AVX2)[0]
    named = []
    tvm_ffi.structural_walk(read_both_sides(plain), (tirx.Let, named.append))
    assert len(named) == 2


def test_the_update_of_a_reduction_stays_as_it_is():
    x = te.placeholder((6, 32), name="x")
    k = te.reduce_axis((0, 6), "k")
    larger = te.comm_reducer(
        lambda a, b: tirx.Select(tirx.isnan(a), a, tirx.max(a, b)),
        lambda t: tirx.const(-1, t),
        name="larger",
    )
    y = te.compute((32,), lambda i: larger(x[k, i], axis=[k]), name="y")
    plain = schedule(te.create_prim_func([x, y]), AVX2)[0]
    assert tvm_ffi.structural_equal(read_both_sides(plain), plain)
