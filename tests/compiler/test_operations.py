from __future__ import annotations

import pytest
from tvm import tirx
from tvm.script import tirx as T

from tests.compiling import compile_here
from tests.net import Net
from tilewright.compiler.operations import operations
from tilewright.targets.rules.tir import Kernel, bind, branch, loop, number, seq

LANES = 8


def kernel_of(body):
    """A kernel whose body is `body(x, y)` over flat buffers of 64 floats."""
    kernel = Kernel("f")
    x, y = kernel.param((64,), "float32", "x"), kernel.param((64,), "float32", "y")
    return kernel.finish(body(x, y))


def step(x, y, at=0):
    """One multiplication and one addition of a vector."""
    value = x.load(at, LANES) * number(2.0, "float32", LANES) + x.splat(0, LANES)
    return y.store(at, value, LANES)


def test_counts_each_lane_of_each_iteration():
    body = kernel_of(lambda x, y: loop(8, lambda i: step(x, y, i * LANES), "i"))
    assert operations(body) == 8 * 2 * LANES


def test_a_value_used_twice_in_a_store_counts_once():
    def body(x, y):
        square = x.load(0) * x.load(1)
        return y.store(0, square + square)

    assert operations(kernel_of(body)) == 2


def test_indices_copies_and_comparisons_count_nothing():
    def body(x, y):
        return loop(7, lambda i: y.store(i * 2 + 1, x.load(i + 3)), "i")

    assert operations(kernel_of(body)) == 0


def test_bounds_that_depend_on_loops_are_counted_exactly():
    def body(x, y):
        def piece(p):
            count = tirx.min(10 - p * 4, 4)
            return loop(count, lambda i: step(x, y), "i")

        return loop(3, piece, "p")

    assert operations(kernel_of(body)) == 10 * 2 * LANES


def test_branches_on_loops_count_the_side_that_is_taken():
    def body(x, y):
        def line(i):
            twice = seq([step(x, y), step(x, y)])
            return bind(i * 2, "j", lambda j: branch(j < 6, twice, step(x, y)))

        return loop(10, line, "i")

    assert operations(kernel_of(body)) == (3 * 2 + 7) * 2 * LANES


def test_a_branch_on_data_counts_its_costlier_side():
    def body(x, y):
        return loop(5, lambda i: branch(x.load(i) > 0.0, step(x, y)), "i")

    assert operations(kernel_of(body)) == 5 * 2 * LANES


def test_open_sizes_have_no_count():
    kernel = Kernel("f")
    x = kernel.param(("n",), "float32", "x")
    body = loop(kernel.size("n"), lambda i: x.store(i, x.load(i) * 2.0), "i")
    assert operations(kernel.finish(body)) is None


def test_blocks_and_functions_that_tvm_writes():
    @T.prim_func(s_tir=True)
    def exp(x: T.Buffer((10,), "float32"), y: T.Buffer((10,), "float32")):
        for i, j in T.grid(3, 4):
            with T.sblock("y"):
                v = T.axis.spatial(10, i * 4 + j)
                T.where(i * 4 + j < 10)
                y[v] = T.exp(x[v])

    assert operations(exp) == 10


@pytest.mark.parametrize("size", [(1, 3, 17, 13), (2, 3, 8, 8)])
def test_a_convolution_costs_what_its_formula_says(size, tmp_path):
    net = Net(x=size)
    work = compile_here(
        net.model(net.Conv("x", net.weight(24, 3, 3, 3))), tmp_path, until="weights"
    )
    outputs = size[0] * 24 * (size[2] - 2) * (size[3] - 2)
    counted = sum(operations(work.mod[name]) for name in work.kernels)
    assert counted == 2 * 27 * outputs
