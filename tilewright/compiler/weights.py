"""Weights leave the code: constants of `main` become parameters read from a mapped section.

TVM's own export keeps constants in a blob that is copied at load (334 ms for ResNet-50,
resident twice). Here they lie in the library's read-only data, page-aligned, and every call
hands the kernels tensors over that memory: nothing is copied, and processes share the pages.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

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


@mutator
class _Lifter(PyExprMutator):
    """Replaces each constant by a parameter; equal constants share one."""

    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.params: list[relax.Var] = []
        self.arrays: list[np.ndarray] = []
        self._known: dict[tuple, relax.Var] = {}

    def visit_generic_const_(self, value: relax.Expr) -> relax.Expr:
        array = array_of(value)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._known:
            param = relax.Var(f"weight_{len(self.params)}", value.ty)
            self._known[key] = param
            self.params.append(param)
            self.arrays.append(array)
        return self._known[key]


def lift_weights(mod: tvm.IRModule) -> tuple[tvm.IRModule, WeightTable]:
    """`mod` with the constants of `main` as further parameters, and their values."""
    main = mod["main"]
    lifter = _Lifter(mod)
    body = lifter.visit_expr(main.body)
    lifted = relax.Function(
        [*main.params, *lifter.params], body, main.ret_ty, main.is_pure, main.attrs
    )
    mod = mod.clone()
    mod.update_func(mod.get_global_var("main"), lifted)
    return relax.transform.Normalize()(mod), WeightTable(tuple(lifter.arrays))
