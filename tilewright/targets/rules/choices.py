"""Read both sides of a choice before it is made, where both may be read.

Before   y[i] = T.Select(0 < x[i], x[i], slope[0] * x[i])
After    y[i] = T.Let(T.Select(0 < a, a, b * a), where={a: x[i], b: slope[0]})

TVM takes it that what is read on one side alone must not be read otherwise, and makes a branch of
the choice: one element after the other, and half of the branches predicted wrong. A place that is
inside its tensor whatever the loops' indices are, may be read.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.s_tir import SBlock
from tvm.tirx import BufferStore, IntImm

from tilewright.targets.rules.vector_math import Lets

_SPATIAL = tirx.IterVar.DataPar
# Of its arguments but one is evaluated: what stands there stays there.
_CONDITIONAL = tvm.ir.Op.get("prim.if_then_else")


def read_both_sides(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Name what the choices of a kernel's blocks read, where it is inside its tensor."""
    return tvm_ffi.structural_map(function, (SBlock, _of_block))


def _of_block(block: SBlock) -> SBlock:
    # Of what a reduction's update names, TVM's elimination of common expressions loses the order.
    if not len(block.iter_vars) or any(axis.iter_type != _SPATIAL for axis in block.iter_vars):
        return block
    analyzer = tvm.sym.Analyzer()
    for axis in block.iter_vars:
        analyzer.bind(axis.var, axis.dom)
    reader = _Reader(analyzer)
    body = tvm_ffi.structural_mutate(block.body, reader.callbacks)
    if body.same_as(block.body):
        return block
    parts = (block.iter_vars, block.reads, block.writes, block.name_hint)
    rest = (block.init, block.alloc_buffers, block.match_buffers, block.annotations)
    return SBlock(*parts, body, *rest)


class _Reader:
    """Rewrites the stores of one block."""

    def __init__(self, analyzer: tvm.sym.Analyzer) -> None:
        self._analyzer = analyzer
        # What the store that is being rewritten names; None where a read stays in its place.
        self._names: Lets | None = None
        self._chooses = False
        self._loads: list[tuple[TensorLoad, tirx.Var]] = []
        self.callbacks = [
            (BufferStore, self._store),
            (tirx.Select, self._select),
            (tvm.ir.Call, self._call),
            (TensorLoad, self._load),
        ]

    def _store(self, store: BufferStore, mutator: tvm_ffi.StructuralMutator) -> tirx.Stmt:
        self._names, self._loads = Lets(), []
        value = mutator.mutate(store.value)
        names, self._names = self._names, None
        return BufferStore(store.buffer, names.body(value), store.indices) if self._loads else store

    def _select(self, choice: tirx.Select, mutator: tvm_ffi.StructuralMutator) -> tirx.Expr:
        before, self._chooses = self._chooses, True
        choice = mutator.default_mutate(choice)
        self._chooses = before
        return choice

    def _call(self, call: tvm.ir.Call, mutator: tvm_ffi.StructuralMutator) -> tirx.Expr:
        if not _CONDITIONAL.same_as(call.op):
            return mutator.default_mutate(call)
        before, self._names = self._names, None
        call = mutator.default_mutate(call)
        self._names = before
        return call

    def _load(self, load: TensorLoad, mutator: tvm_ffi.StructuralMutator) -> tirx.Expr:
        if self._names is None or not self._chooses or not self._is_inside(load):
            return mutator.default_mutate(load)
        for known, var in self._loads:
            if tvm_ffi.structural_equal(known, load):
                return var
        var = self._names(load, "read")
        self._loads.append((load, var))
        return var

    def _is_inside(self, load: TensorLoad) -> bool:
        return all(map(self._is_place, load.indices, load.source.shape))

    def _is_place(self, index: tirx.Expr, size: tirx.Expr) -> bool:
        if isinstance(size, IntImm):
            bound = self._analyzer.const_int_bound(index)
            return bound.min_value >= 0 and bound.max_value < int(size)
        return self._analyzer.can_prove(tirx.all(index >= 0, index < size))
