"""Kernels that read backwards stay alone: TVM gets their indices wrong once they are fused.

A reshape fused into y[i] = x[255 - i] reads at (255 - i) // 64, (255 - i) % 64 // 8 and so on.
TVM simplifies the parts to (63 - i) % 64 and (7 - i) % 8, each of which is right, and its
FlattenBuffer then takes them for parts of one number and writes 192 - i.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad

# TVM's OpPatternKind (relax/op_attr_types.h): what is fused with nothing.
_OPAQUE = 8
_PATTERN = "op_pattern"


@tvm.transform.module_pass(opt_level=0)
def part_reversed(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Mark kernels that read backwards as opaque; after AnnotateTIROpPattern, before FuseOps."""
    mod = mod.clone()
    for var, function in list(mod.functions_items()):
        if isinstance(function, tirx.PrimFunc) and _reads_backwards(function):
            mod.update_func(var, function.with_attr(_PATTERN, _OPAQUE))
    return mod


def _reads_backwards(function: tirx.PrimFunc) -> bool:
    loads = _parts(function.body, TensorLoad)
    return any(_falls(index) for load in loads for index in load.indices)


def _falls(index: tirx.Expr) -> bool:
    """Whether something that is no constant is taken away from something, or times less than 0."""
    taken = any(not isinstance(part.b, tirx.IntImm) for part in _parts(index, tirx.Sub))
    factors = [part.b for part in _parts(index, tirx.Mul) if isinstance(part.b, tirx.IntImm)]
    return taken or any(factor.value < 0 for factor in factors)


def _parts(node: Any, kind: type) -> list[Any]:
    """Everything of a kind in `node`."""
    found: list[Any] = []
    tvm_ffi.structural_walk(node, (kind, found.append))
    return found
