"""Weights leave the code: constants become parameters of `main`, read from a mapped section.

TVM's own export keeps constants in a blob that is copied at load (334 ms for ResNet-50,
resident twice). Here they lie in the library's read-only data, page-aligned, and every call
hands the kernels tensors over that memory: nothing is copied, and processes share the pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tilewright.passes.graphs import MAIN, graphs
from tilewright.passes.relax_constants import array_of

# Kernels may use aligned vector loads on any parameter; 64 bytes is also a cache line.
ALIGNMENT = 64


@dataclass(frozen=True)
class WeightTable:
    """Weights in the order in which they follow the inputs among `main`'s parameters."""

    arrays: tuple[np.ndarray, ...]

    def rows(self) -> list[dict]:
        """Offset (bytes), shape and dtype of each weight, for the manifest."""
        rows, offset = [], 0
        for array in self.arrays:
            rows.append({"offset": offset, "shape": list(array.shape), "dtype": str(array.dtype)})
            offset += _padded(array.nbytes)
        return rows

    @property
    def size_bytes(self) -> int:
        """Bytes of the section, padding included."""
        return sum(_padded(array.nbytes) for array in self.arrays)

    def write(self, path: Path) -> None:
        """Write the section's content."""
        with path.open("wb") as file:
            for array in self.arrays:
                file.write(array.tobytes())
                file.write(bytes(_padded(array.nbytes) - array.nbytes))


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Table:
    """The constants of a module; equal ones are one."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.kinds: list[relax.TensorType] = []
        self._places: dict[tuple, int] = {}

    def place(self, value: relax.Expr) -> int:
        """The number of a constant."""
        array = array_of(value)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._places:
            self._places[key] = len(self.arrays)
            self.arrays.append(array)
            self.kinds.append(value.ty)
        return self._places[key]


@mutator
class _Lifter(PyExprMutator):
    """Replaces each constant of a graph by a parameter; `calls` are the graphs that it calls."""

    def __init__(self, mod: tvm.IRModule, table: _Table) -> None:
        super().__init__(mod)
        self._table, self._graphs = table, graphs(mod)
        self.params: dict[int, relax.Var] = {}
        self.calls: set[str] = set()

    def visit_generic_const_(self, value: relax.Expr) -> relax.Expr:
        return self.param(self._table.place(value))

    def visit_global_var_(self, var: tvm.ir.GlobalVar) -> relax.Expr:
        if var.name_hint in self._graphs:
            self.calls.add(var.name_hint)
        return var

    def param(self, place: int) -> relax.Var:
        """The parameter for a constant; a new one, if there is none yet."""
        if place not in self.params:
            self.params[place] = relax.Var(f"weight_{place}", self._table.kinds[place])
        return self.params[place]


@mutator
class _Handing(PyExprMutator):
    """Calls graphs by their new names, with parameters of the caller as further arguments."""

    def __init__(
        self,
        mod: tvm.IRModule,
        names: Mapping[str, tvm.ir.GlobalVar],
        handed: Mapping[str, Sequence[relax.Var]],
    ) -> None:
        super().__init__(mod)
        self._names, self._handed = names, handed

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        name = getattr(call.op, "name_hint", None)
        args = [*map(self.visit_expr, call.args), *self._handed.get(name, ())]
        return relax.Call(self._names.get(name, call.op), args, call.attrs, call.ty_args)


def lift_weights(mod: tvm.IRModule) -> tuple[tvm.IRModule, WeightTable]:
    """`mod` with the constants of its graphs as further parameters of `main`, and their values.

    The bodies of loops are handed theirs.
    """
    table = _Table()
    lifters = {name: _Lifter(mod, table) for name in graphs(mod)}
    bodies = {name: lifter.visit_expr(mod[name].body) for name, lifter in lifters.items()}
    # Graphs call each other, and some themselves: until none needs more.
    count = -1
    while count != (count := sum(len(lifter.params) for lifter in lifters.values())):
        for lifter in lifters.values():
            for place in [p for called in sorted(lifter.calls) for p in lifters[called].params]:
                lifter.param(place)
    for place in range(len(table.arrays)):
        lifters[MAIN].param(place)
    params = {name: dict(sorted(lifter.params.items())) for name, lifter in lifters.items()}
    # Functions with other parameters are others: calls ask their names for their types.
    rest = {var: f for var, f in mod.functions_items() if var.name_hint not in lifters}
    builder = relax.BlockBuilder(tvm.IRModule(rest, mod.attrs))
    names = {
        name: builder.add_func(_with(mod[name], params[name], body), name)
        for name, body in bodies.items()
    }
    for name, lifter in lifters.items():
        handed = {
            called: [params[name][place] for place in params[called]] for called in lifter.calls
        }
        body = _Handing(builder.get(), names, handed).visit_expr(bodies[name])
        builder.update_func(names[name], _with(mod[name], params[name], body))
    return relax.transform.Normalize()(builder.get()), WeightTable(tuple(table.arrays))


def _with(
    function: relax.Function, params: Mapping[int, relax.Var], body: relax.Expr
) -> relax.Function:
    """`function` with further parameters and another body."""
    params = [*function.params, *params.values()]
    return relax.Function(params, body, function.ret_ty, function.is_pure, function.attrs)
