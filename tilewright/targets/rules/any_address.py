"""Let the tensors that a kernel is given begin at any of their elements.

Before   x: T.Buffer((64, 96), "float32")             vectors begin at a multiple of 64
After    x: T.Buffer((64, 96), "float32", align=4)    vectors begin anywhere, and take as long

A caller's arrays begin where they do, numpy's 16 bytes behind a multiple of 64 as a rule: a kernel
that demands more has them copied at every call.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx


@tirx.transform.prim_func_pass(opt_level=0)
def from_any_address(
    function: tirx.PrimFunc, _mod: tvm.IRModule, _context: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """A kernel whose parameters are aligned to their elements only."""
    loosened = {
        param: tirx.decl_buffer(
            *(param.shape, param.dtype, param.name, param.data, param.strides, param.elem_offset),
            scope=param.scope(),
            data_alignment=max(1, tvm_ffi.dtype(param.dtype).bits // 8),
        )
        for param in function.params
        if hasattr(param, "shape")
    }

    def changed(buffer: tirx.Buffer) -> tirx.Buffer:
        return loosened.get(buffer, buffer)

    return tvm_ffi.structural_map(function, (tirx.Buffer, changed))
