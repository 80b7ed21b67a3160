from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sequential import sequential, variable


def test_steps_read_what_the_ones_before_have_written():
    """Running maxima, and how often there was a new one."""

    def write(x: Any, y: Any, count: Any) -> None:
        best = variable(T.float32(-10), "float32")
        count[0] = T.int64(0)
        with T.serial(0, x.shape[0]) as i:
            with T.If(x[i] > best[0]), T.Then():
                best[0] = x[i]
                count[0] = count[0] + T.int64(1)
            y[i] = best[0]

    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((6,), "float32"))
    with bb.function("main", [x]):
        found = sequential(
            bb, write, [x], lambda x: [(x.shape, "float32"), ([1], "int64")], name="maxima"
        )
        bb.emit_func_output(relax.Tuple(found))
    vm = relax.VirtualMachine(tvm.compile(bb.get(), "llvm"), tvm.cpu())
    given = np.float32([1, 3, 2, 3, 5, 4])
    y, count = vm["main"](tvm.runtime.tensor(given))
    np.testing.assert_array_equal(y.numpy(), np.maximum.accumulate(given))
    assert count.numpy().tolist() == [3]
