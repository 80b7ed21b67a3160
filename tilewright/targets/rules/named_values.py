"""Keep the values that an expression names in registers, before code generation.

Before   y[i] = T.Let(a * a + a, where={a: x[i] + 1})
After    a_1 = T.alloc_buffer((1,), scope="local"); a_1[0] = x[i] + 1
         y[i] = a_1[0] * a_1[0] + a_1[0]

TVM's code generator tells its analyzer the value of every name, and the analyzer puts each into
the ones that follow: a polynomial of a polynomial of a polynomial took minutes.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.tirx import BufferStore, Stmt

from tilewright.targets.rules.tir import local, seq

# Not all arguments of such a call are evaluated: what one names stays in it.
_CONDITIONAL = tvm.ir.Op.get("prim.if_then_else")


def keep_named(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Put what the stores of a kernel name into local buffers, in the order of evaluation."""
    return _Namer().run(function)


class _Namer:
    def __init__(self) -> None:
        # The statements before the store that is being rewritten; None between stores.
        self._before: list[Stmt] | None = None

    def run(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        callbacks = [
            (BufferStore, self._store),
            (tirx.Let, self._let),
            (tvm.ir.Call, self._call),
        ]
        return tvm_ffi.structural_mutate(function, callbacks)

    def _store(self, store: BufferStore, mutator: tvm_ffi.StructuralMutator) -> Stmt:
        self._before = []
        store = mutator.default_mutate(store)
        before, self._before = self._before, None
        return seq([*before, store])

    def _let(self, let: tirx.Let, mutator: tvm_ffi.StructuralMutator) -> tirx.Expr:
        if self._before is None:
            return mutator.default_mutate(let)
        value = mutator.mutate(let.value)
        dtype = value.ty.dtype
        register, made = local(dtype.lanes, dtype.with_lanes(1), let.var.name)
        self._before += [made, register.store(0, value, dtype.lanes)]
        mutator.var_remap_set(let.var, register.load(0, dtype.lanes))
        return mutator.mutate(let.body)

    def _call(self, call: tvm.ir.Call, mutator: tvm_ffi.StructuralMutator) -> tirx.Expr:
        if not _CONDITIONAL.same_as(call.op):
            return mutator.default_mutate(call)
        before, self._before = self._before, None
        call = mutator.default_mutate(call)
        self._before = before
        return call
