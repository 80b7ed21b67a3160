"""Fold batch normalisation with constant statistics into the convolution before it.

Before   y = batch_norm(conv2d(x, w) + b, gamma, beta, mean, var)[0]
After    y = conv2d(x, w * s) + (b - mean) * s + beta      with s = gamma / sqrt(var + eps)

A batch normalisation that stands elsewhere becomes one multiply and one add. It is left
alone when its parameters are computed at run time, and the convolution keeps its weights
when something else reads its result.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2 (eq. 14).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tilewright.passes.graphs import graphs
from tilewright.passes.relax_constants import array_of, constant, is_constant
from tilewright.passes.uses import count_readers
from tilewright.passes.weight_scale import is_foldable, scale_channels


@dataclass(frozen=True)
class _Affine:
    """y = x * scale + shift along one axis; float64 arrays of one value per channel."""

    scale: np.ndarray
    shift: np.ndarray


@mutator
class _BatchNormFolder(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, graph: str) -> None:
        super().__init__(mod)
        self._readers = count_readers(mod[graph])
        self._bindings = relax.analysis.get_var2val(mod[graph])

    def visit_tuple_getitem_(self, item: relax.TupleGetItem) -> relax.Expr:
        # Looked at before the visit: `_readers` counts uses of the variables as they were.
        norm = self._bound(item.tuple_value)
        if item.index != 0 or not _is_op(norm, "relax.nn.batch_norm"):
            return self.visit_expr_post_order(item)
        affine = _affine_of(norm)
        if affine is None:
            return self.visit_expr_post_order(item)
        source = norm.args[0]
        folded = self._into_convolution(source, norm, affine)
        if folded is not None:
            return folded
        x = self.visit_expr(source)
        shape = _along(norm, len(affine.scale), x.ty.ndim)
        dtype = str(x.ty.dtype)
        scale = constant(affine.scale.reshape(shape), dtype)
        shift = constant(affine.shift.reshape(shape), dtype)
        return relax.op.add(self.builder_.emit(relax.op.multiply(x, scale)), shift)

    def _into_convolution(
        self, source: relax.Expr, norm: relax.Call, affine: _Affine
    ) -> relax.Expr | None:
        """The convolution `source` with `affine` in its weights, or None where it declines."""
        convolution, bias = self._bound(source), np.zeros_like(affine.shift)
        named = source
        if self._readers[source] != 1:
            return None
        if _is_op(convolution, "relax.add") and is_constant(convolution.args[1]):
            values = array_of(convolution.args[1])
            rank = norm.args[0].ty.ndim
            shape = [*[1] * (rank - values.ndim), *values.shape]
            # As many values as channels do not make a bias: they may lie along the width.
            if shape != _along(norm, bias.size, rank):
                return None
            if self._readers[convolution.args[0]] != 1:
                return None
            bias = values.reshape(-1).astype(np.float64)
            named = convolution.args[0]
            convolution = self._bound(named)
        if not is_foldable(convolution) or not _channels_first(norm):
            return None
        x = self.visit_expr(convolution.args[0])
        scaled = scale_channels(convolution, affine.scale)
        new = relax.Call(convolution.op, [x, scaled], convolution.attrs, convolution.ty_args)
        shift = affine.shift + bias * affine.scale
        shape = _along(norm, len(shift), norm.args[0].ty.ndim)
        return relax.op.add(
            self.builder_.emit(new, named.name),
            constant(shift.reshape(shape), str(scaled.ty.dtype)),
        )

    def _bound(self, expr: relax.Expr) -> relax.Expr:
        """What a variable of the original function stands for."""
        return self._bindings.get(expr, expr) if isinstance(expr, relax.Var) else expr


def _is_op(expr: relax.Expr, name: str) -> bool:
    return isinstance(expr, relax.Call) and getattr(expr.op, "name", None) == name


def _affine_of(norm: relax.Call) -> _Affine | None:
    parameters = norm.args[1:5]
    if norm.attrs.training or not all(is_constant(p) for p in parameters):
        return None
    gamma, beta, mean, variance = (array_of(p).astype(np.float64) for p in parameters)
    scale = 1.0 / np.sqrt(variance + norm.attrs.epsilon)
    if norm.attrs.scale:
        scale = scale * gamma
    shift = -mean * scale
    return _Affine(scale, shift + beta if norm.attrs.center else shift)


def _channels_first(norm: relax.Call) -> bool:
    return int(norm.attrs.axis) == 1


def _along(norm: relax.Call, size: int, rank: int) -> list[int]:
    shape = [1] * rank
    shape[int(norm.attrs.axis)] = size
    return shape


@tvm.transform.module_pass(opt_level=0, name="fold_batch_norm")
def fold_batch_norm(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Fold every batch normalisation that has constant parameters."""
    for graph in graphs(mod):
        folder = _BatchNormFolder(mod, graph)
        folder.builder_.update_func(mod.get_global_var(graph), folder.visit_expr(mod[graph]))
        mod = folder.builder_.get()
    return relax.transform.DeadCodeElimination()(mod)
