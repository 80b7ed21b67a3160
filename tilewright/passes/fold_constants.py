"""Rearrange constants at compile time, with numpy.

Before   y = conv2d(x, w) + reshape(bias, (1, 64, 1, 1));  z = matmul(y, permute_dims(v))
After    y = conv2d(x, w) + bias_1x64x1x1;                 z = matmul(y, v_transposed)

TVM's FoldConstant compiles a kernel for each such operator (9 s on ResNet-50 in NHWC).
Only rearrangements are folded here: arithmetic on constants was done before import.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tilewright.passes.relax_constants import array_of, constant, is_constant


def _to_shape(call: relax.Call, x: np.ndarray) -> np.ndarray:
    return x.reshape([int(size) for size in call.ty.shape])


def _permute_dims(call: relax.Call, x: np.ndarray) -> np.ndarray:
    axes = call.attrs.axes
    return x.transpose([int(axis) for axis in axes] if axes is not None else None)


def _astype(call: relax.Call, x: np.ndarray) -> np.ndarray:
    return x.astype(str(call.ty.dtype))


_FOLDED: dict[str, Callable[[relax.Call, np.ndarray], np.ndarray]] = {
    "relax.reshape": _to_shape,
    "relax.expand_dims": _to_shape,
    "relax.squeeze": _to_shape,
    "relax.permute_dims": _permute_dims,
    "relax.astype": _astype,
}


@mutator
class _Folder(PyExprMutator):
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        fold = _FOLDED.get(getattr(call.op, "name", ""))
        if fold is None or not _is_static(call):
            return call
        source = call.args[0]
        if isinstance(source, relax.Var):
            # A constant folded a moment ago is bound to a variable until bindings are tidied.
            value = self.lookup_binding(source)
            source = source if value is None else value
        return constant(fold(call, array_of(source))) if is_constant(source) else call


def _is_static(call: relax.Call) -> bool:
    shape = getattr(call.ty, "shape", None)
    return shape is not None and all(isinstance(size, tvm.tirx.IntImm) for size in shape)


@tvm.transform.module_pass(opt_level=0, name="fold_constants")
def fold_constants(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Fold rearrangements of constants in every Relax function."""
    folder = _Folder(mod)
    for var, function in mod.functions_items():
        if isinstance(function, relax.Function):
            folder.builder_.update_func(var, folder.visit_expr(function))
    return relax.transform.CanonicalizeBindings()(folder.builder_.get())
