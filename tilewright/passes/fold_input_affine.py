"""Fold multiplications and additions of constants before a convolution into it.

Before   y = conv(x * s + t, w)               (batch normalisation before the convolution)
After    y = conv(x, w * s) + sum(w * t)      s and t lie along the channels that w reads

Declines, by leaving things as they are, when a constant is not one value per input channel,
when something else reads a value in between, and for a shift other than 0 where the convolution
pads or is a transposed one: at the borders a zero stands for what was shifted. One number for
all channels stays too: it may be the end of an activation (hard_swish, GELU). Leaves to
`fold_affine` what follows a convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tilewright.passes.graphs import graphs
from tilewright.passes.relax_constants import array_of, constant, is_constant
from tilewright.passes.shapes import is_per_channel, shape_of
from tilewright.passes.uses import count_readers
from tilewright.passes.weight_scale import adds_zeros, is_foldable, scale_inputs


@dataclass(frozen=True)
class _Affine:
    """What a convolution reads is source * scale + shift; float64, one value per channel."""

    source: relax.Expr
    scale: np.ndarray
    shift: np.ndarray


@mutator
class _InputAffineFolder(PyExprMutator):
    def __init__(self, mod: tvm.IRModule, graph: str) -> None:
        super().__init__(mod)
        self._readers = count_readers(mod[graph])
        self._old = relax.analysis.get_var2val(mod[graph])

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        affine = self._affine_before(call) if is_foldable(call) else None
        if affine is None:
            return self.visit_expr_post_order(call)
        weights = array_of(call.args[1])
        args = [
            self.visit_expr(affine.source),
            constant(scale_inputs(call, affine.scale), str(weights.dtype)),
        ]
        folded = relax.Call(call.op, args, call.attrs, call.ty_args)
        if not affine.shift.any():
            return folded
        axes = tuple(range(1, weights.ndim))
        bias = scale_inputs(call, affine.shift).sum(axis=axes)
        shape = (1, -1, *[1] * (weights.ndim - 2))
        # Under the name of what is folded, so that the report finds it in the group.
        product = self.builder_.emit(folded, call.args[0].name)
        return relax.op.add(product, constant(bias.reshape(shape), str(weights.dtype)))

    def _affine_before(self, convolution: relax.Call) -> _Affine | None:
        given = shape_of(convolution.args[0])
        if given is None or not isinstance(given[1], int):
            return None
        channels = given[1]
        affine = _Affine(convolution.args[0], np.ones(channels), np.zeros(channels))
        bounded = adds_zeros(convolution)
        while (step := self._step(affine, given)) is not None:
            if bounded and step.shift.any():
                break
            affine = step
        if affine.source.same_as(convolution.args[0]):
            return None
        above = self._old.get(affine.source) if isinstance(affine.source, relax.Var) else None
        if is_foldable(above) and self._readers[affine.source] == 1:
            return None
        return affine

    def _step(self, affine: _Affine, given: tuple) -> _Affine | None:
        """`affine` with the operator that makes its source inside, None where there is none."""
        source = affine.source
        call = self._old.get(source) if isinstance(source, relax.Var) else None
        name = getattr(getattr(call, "op", None), "name", "")
        if name not in ("relax.multiply", "relax.add") or self._readers[source] != 1:
            return None
        for value, factor in (call.args, call.args[::-1]):
            channelwise = is_constant(factor) and is_per_channel(
                factor, 1, len(affine.scale), len(given)
            )
            # A product may also widen its operand: [n, 1, h, w] by [1, 4, 1, 1].
            if not channelwise or shape_of(value) != given:
                continue
            values = array_of(factor).astype(np.float64).reshape(-1)
            if values.size == 1:
                continue
            if name == "relax.multiply":
                return _Affine(value, affine.scale * values, affine.shift)
            return _Affine(value, affine.scale, affine.shift + affine.scale * values)
        return None


@tvm.transform.module_pass(opt_level=0, name="fold_input_affine")
def fold_input_affine(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Fold constants before convolutions."""
    for graph in graphs(mod):
        folder = _InputAffineFolder(mod, graph)
        folder.builder_.update_func(mod.get_global_var(graph), folder.visit_expr(mod[graph]))
        mod = folder.builder_.get()
    return relax.transform.DeadCodeElimination()(mod)
