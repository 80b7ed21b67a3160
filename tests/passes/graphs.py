"""Small Relax modules for the tests of the passes, and a way to run one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax, tirx


def module(build: Callable, **shapes: tuple) -> tvm.IRModule:
    """`main` with an input per keyword, open where a size is a name; `build(bb, *inputs)` gives
    the result."""
    bb = relax.BlockBuilder()
    names = {size for shape in shapes.values() for size in shape if isinstance(size, str)}
    sizes = {name: tirx.Var(name, "int64") for name in names}
    inputs = [
        relax.Var(name, relax.TensorType([sizes.get(size, size) for size in shape], "float32"))
        for name, shape in shapes.items()
    ]
    with bb.function("main", inputs):
        with bb.dataflow():
            out = bb.emit_output(build(bb, *inputs))
        bb.emit_func_output(out)
    return relax.transform.CanonicalizeBindings()(bb.get())


def run(mod: tvm.IRModule, *arrays: np.ndarray) -> np.ndarray:
    """The answer of `main`, built by TVM's own pipeline."""
    built = relax.build(mod, tvm.target.Target({"kind": "llvm"}))
    machine = relax.VirtualMachine(built, tvm.cpu())
    result = machine["main"](*[tvm.runtime.tensor(array) for array in arrays])
    if not hasattr(result, "numpy"):
        return [part.numpy() for part in result]
    return result.numpy()


def calls(mod: tvm.IRModule) -> list[str]:
    """Operator of each call in `main`, in order."""
    bindings = [b for block in mod["main"].body.blocks for b in block.bindings]
    return [b.value.op.name for b in bindings if isinstance(b.value, relax.Call)]
