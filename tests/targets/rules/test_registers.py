from __future__ import annotations

import numpy as np
import tvm

from tilewright.targets import resolve
from tilewright.targets.rules.registers import PIPELINE
from tilewright.targets.rules.tir import Kernel, Stmt, local, loop, seq

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
