from __future__ import annotations

import numpy as np
import tvm
from hypothesis import given
from hypothesis import strategies as st

from tests.targets.rules.lowering import AVX2
from tilewright.targets.rules.registers import PIPELINE
from tilewright.targets.rules.tir import Kernel, copy, fill, loop, pieces, seq


@given(length=st.integers(0, 100), power=st.integers(0, 4))
def test_pieces_cover_a_length(length, power):
    found = pieces(length, 2**power)
    assert [start for start, _ in found] == [
        sum(n for _, n in found[:i]) for i in range(len(found))
    ]
    assert sum(n for _, n in found) == length
    assert all(n & (n - 1) == 0 and n <= 2**power for _, n in found)


def _call(kernel, *arrays):
    module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    tvm.tirx.build(module, tvm.target.Target(AVX2.tvm_config()), pipeline=PIPELINE)["main"](
        *tensors
    )
    return tensors[-1].numpy()


def test_copy_and_fill():
    kernel = Kernel("move")
    x = kernel.param((21,), "float32", "x")
    y = kernel.param((40,), "float32", "y")
    body = seq([copy(y, 3, x, 2, 19, 8), fill(y, 22, 18, 8, 7.0), fill(y, 0, 3, 8)])
    values = np.arange(21, dtype="float32")
    out = _call(kernel.finish(body), values, np.full(40, -1, "float32"))
    assert out.tolist() == [0] * 3 + values[2:].tolist() + [7] * 18


def test_a_size_is_bound_by_the_call():
    kernel = Kernel("twice")
    x = kernel.param(("n", 2), "float32", "x")
    y = kernel.param(("n", 2), "float32", "y")
    n = kernel.size("n")
    body = loop(n * 2, lambda i: y.store(i, x.load(i) + x.load(i)), "i", parallel=True)
    function = kernel.finish(body)
    for rows in (1, 5):
        values = np.arange(rows * 2, dtype="float32").reshape(rows, 2)
        assert _call(function, values, np.zeros_like(values)).tolist() == (2 * values).tolist()
