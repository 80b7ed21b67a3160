from __future__ import annotations

import numpy as np
import tvm
from tvm import te

from tilewright.targets import resolve
from tilewright.targets.rules import registers
from tilewright.targets.rules.registers import PIPELINE
from tilewright.targets.rules.tir import Kernel, Stmt, local, loop, number, seq

CALL = "TVMBackendAllocWorkspace"


def _built(size: int, pipeline: str) -> tvm.runtime.Module:
    kernel = Kernel("main")
    x, y = (kernel.param((8, size), "float32", name) for name in "xy")

    def row(r) -> Stmt:
        kept, made = local(size, "float32", "kept")
        fetch = loop(size, lambda i: kept.store(i, x.load(r * size + i)), "i")
        give = loop(size, lambda i: y.store(r * size + i, kept.load(size - 1 - i)), "i")
        return seq([made, fetch, give])

    mod = tvm.IRModule({"main": kernel.finish(loop(8, row, "row"))})
    target = tvm.target.Target(resolve("native").tvm_config())
    return tvm.tirx.build(mod, target=target, pipeline=pipeline)


def test_small_buffers_need_no_call():
    built = _built(16, PIPELINE)
    assert CALL in _built(16, "default").inspect_source("ll")
    assert CALL not in built.inspect_source("ll")
    x = np.arange(128, dtype="float32").reshape(8, 16)
    y = tvm.runtime.tensor(np.zeros_like(x))
    built["main"](tvm.runtime.tensor(x), y)
    np.testing.assert_array_equal(y.numpy(), x[:, ::-1])


def test_large_buffers_stay_in_memory():
    assert CALL in _built(4096, PIPELINE).inspect_source("ll")


def test_only_a_rules_kernels_go_without_the_pass_for_blocks():
    ours = Kernel("main")
    y = ours.param((4,), "float32", "y")
    finished = ours.finish(loop(4, lambda i: y.store(i, number(1.0, "float32")), "i"))
    x = te.placeholder((4,), "float32", "x")
    theirs = te.create_prim_func([x, te.compute((4,), lambda i: x[i] + x[i])])
    assert not registers._has_blocks(finished) and registers._has_blocks(theirs)
