"""Fold multiplications and additions of constants after a convolution into it.

Before   y = (conv(x, w) + b) * s + t          (batch normalisation written out, learnt scales)
After    y = conv(x, w * s) + (b * s + t)

Declines, by leaving things as they are, when a constant is not one value per output channel
(or one in all), or when something else reads a value in between.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tilewright.passes.graphs import graphs
from tilewright.passes.relax_constants import array_of, constant, is_constant
from tilewright.passes.shapes import is_per_channel, shape_of
from tilewright.passes.uses import count_readers
from tilewright.passes.weight_scale import is_foldable, scale_channels


@mutator
class _AffineFolder(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, graph: str) -> None:
        super().__init__(mod)
        self._readers = count_readers(mod[graph])
        self._old = relax.analysis.get_var2val(mod[graph])

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        name = getattr(call.op, "name", "")
        if name not in ("relax.multiply", "relax.add"):
            return self.visit_expr_post_order(call)
        source, factor = self._split(call)
        call = self.visit_expr_post_order(call)
        if source is None or self._readers[source] != 1:
            return call
        value = self.visit_expr(source)
        found = self.lookup_binding(value) if isinstance(value, relax.Var) else None
        if not isinstance(found, relax.Call) or not _is_channelwise(factor, call):
            return call
        fold = self._scaled if name == "relax.multiply" else self._shifted
        return fold(source, found, array_of(factor), call)

    def _split(self, call: relax.Call) -> tuple[relax.Var | None, relax.Expr | None]:
        for value, other in (call.args, call.args[::-1]):
            if isinstance(value, relax.Var) and is_constant(other):
                return value, other
        return None, None

    def _scaled(
        self, source: relax.Var, found: relax.Call, factor: np.ndarray, call: relax.Call
    ) -> relax.Expr:
        if is_foldable(found):
            return self._convolution(found, factor)
        if not _is_op(found, "relax.add") or not is_constant(found.args[1]):
            return call
        inner = self._old.get(source)
        inner = self._split(inner)[0] if isinstance(inner, relax.Call) else None
        convolution = self.lookup_binding(found.args[0])
        if not is_foldable(convolution) or self._readers[inner] != 1:
            return call
        bias = array_of(found.args[1])
        scaled = self.builder_.emit(self._convolution(convolution, factor), found.args[0].name)
        return relax.op.add(scaled, constant(bias * _as(factor, bias), str(bias.dtype)))

    def _shifted(
        self, source: relax.Var, found: relax.Call, shift: np.ndarray, call: relax.Call
    ) -> relax.Expr:
        if not _is_op(found, "relax.add") or not is_constant(found.args[1]):
            return call
        inner = found.args[0]
        if not isinstance(inner, relax.Var) or not is_foldable(self.lookup_binding(inner)):
            return call
        bias = array_of(found.args[1])
        if not is_per_channel(found.args[1], 1, _channels(call), call.ty.ndim):
            return call
        return relax.op.add(inner, constant(bias + _as(shift, bias), str(bias.dtype)))

    def _convolution(self, found: relax.Call, factor: np.ndarray) -> relax.Call:
        args = [found.args[0], scale_channels(found, factor.reshape(-1))]
        return relax.Call(found.op, args, found.attrs, found.ty_args)


def _is_op(expr: relax.Expr, name: str) -> bool:
    return isinstance(expr, relax.Call) and getattr(expr.op, "name", None) == name


def _channels(call: relax.Call) -> int:
    return int(call.ty.shape[1])


def _is_channelwise(factor: relax.Expr, call: relax.Call) -> bool:
    shape = shape_of(call)
    if shape is None or len(shape) < 3 or not isinstance(shape[1], int):
        return False
    return is_per_channel(factor, 1, shape[1], len(shape))


def _as(factor: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`factor` as one value per channel in the shape of the bias `like`, or as one number."""
    return factor.reshape(-1) if factor.size == 1 else factor.reshape(like.shape)


@tvm.transform.module_pass(opt_level=0, name="fold_affine")
def fold_affine(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Fold constants after convolutions."""
    for graph in graphs(mod):
        folder = _AffineFolder(mod, graph)
        folder.builder_.update_func(mod.get_global_var(graph), folder.visit_expr(mod[graph]))
        mod = folder.builder_.get()
    return relax.transform.DeadCodeElimination()(mod)
