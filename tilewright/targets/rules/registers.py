"""Keep a kernel's small buffers on the stack, from where LLVM moves them into registers.

Before   AllocBuffer(acc, scope="local")                           two calls of the runtime
After    AllocBuffer(acc, scope="local", disable_lower_builtin)    an alloca, and then no memory

TVM would do so by itself if it knew, where it decides, that it compiles for a CPU. Its earlier
passes drop the annotation, so that it is set between them and the one that reads it.
"""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock
from tvm.tirx import AllocBuffer

from tilewright.targets.rules.any_address import from_any_address
from tilewright.targets.rules.clamps import clamp_at_once
from tilewright.targets.rules.named_values import keep_named

# The name of the pipeline for `relax.build(tir_pipeline=...)` and `tirx.build(pipeline=...)`.
PIPELINE = "tilewright"
# What is larger is memory in any case, and a thread's stack may be small.
_MOST_ELEMENTS = 1024


@tirx.transform.prim_func_pass(opt_level=0)
def keep_local(
    function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Annotate the small buffers of scope "local" in a kernel, and ready it for LLVM."""
    function = clamp_at_once(keep_named(function))
    return tvm_ffi.structural_map(function, (AllocBuffer, _annotated))


def _annotated(made: AllocBuffer) -> AllocBuffer:
    buffer = made.buffer
    known = all(isinstance(size, tirx.IntImm) for size in buffer.shape)
    if buffer.scope() != "local" or not known or math.prod(map(int, buffer.shape)) > _MOST_ELEMENTS:
        return made
    return AllocBuffer(buffer, {"disable_lower_builtin": tirx.IntImm("int32", 1)})


# It asks of each buffer how much of it is read and written, which takes two thirds of the time that
# a convolution takes to build. A rule's kernels have no blocks, and buffers as large as they need.
_FOR_BLOCKS = ("s_tir.CompactBufferAllocation",)


def _pipeline() -> tuple:
    passes, host, device = tirx.get_default_tir_pipeline(tvm.target.Target("llvm"))

    @tvm.transform.module_pass(opt_level=0)
    def lowered(mod: tvm.IRModule, context: tvm.transform.PassContext) -> tvm.IRModule:
        mod = from_any_address(mod)
        if any(_has_blocks(function) for function in mod.functions.values()):
            return passes(mod)
        with tvm.transform.PassContext(config=dict(context.config), disabled_pass=_FOR_BLOCKS):
            return passes(mod)

    return lowered, lambda: tvm.transform.Sequential([keep_local, host()]), device


def _has_blocks(function: tvm.ir.BaseFunc) -> bool:
    """Whether there are blocks beside the root, which every function has."""
    found: list[SBlock] = []
    tvm_ffi.structural_walk(function, (SBlock, found.append))
    return any(len(block.iter_vars) for block in found)


tirx.register_tir_pipeline(PIPELINE, _pipeline)
