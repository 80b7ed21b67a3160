"""Converters of operators that select by index."""

from __future__ import annotations

import numpy as np
from tvm import relax, tirx
from tvm.ir import GenericConst, is_prim_expr
from tvm.relax.frontend.onnx import onnx_frontend
from tvm.tirx import IntImm


def gather(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Gather; negative indices count from the end (ONNX operator Gather, since version 11).

    TVM's own converter asks for the table's size at run time, six operators per embedding.
    """
    table, indices = inputs
    axis = attrs.get("axis", 0)
    size = table.ty.shape[axis] if isinstance(table.ty, relax.TensorType) else None
    plain = isinstance(size, IntImm) and not isinstance(indices, relax.ShapeExpr)
    if not plain or (isinstance(table, GenericConst) and isinstance(indices, GenericConst)):
        return onnx_frontend.Gather.get_converter(opset)(bb, inputs, attrs, [{}, {}])
    rows = int(size.value)
    if isinstance(indices, GenericConst):
        values = indices.value.numpy()
        wrapped = np.where(values < 0, values + rows, values)
        return relax.op.take(table, relax.const(wrapped, str(values.dtype)), axis, mode="fast")
    dtype = str(indices.ty.dtype)
    negative = bb.emit(relax.op.less(indices, relax.const(0, dtype)))
    from_end = bb.emit(relax.op.add(indices, relax.const(rows, dtype)))
    wrapped = bb.emit(relax.op.where(negative, from_end, indices))
    # An index past the table would read foreign memory: take the last row instead.
    return relax.op.take(table, wrapped, axis, mode="clip")


def range_(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Range from 0 to a size (ONNX operator Range, since version 11).

    TVM's own converter computes the length as a tensor: it is then another size than the one that
    it equals, and what has the one cannot be added to what has the other.
    """
    start, limit, delta = inputs
    step = _integer(delta)
    if _integer(start) != 0 or not step or step < 0 or not is_prim_expr(limit):
        return onnx_frontend.Range.get_converter(opset)(bb, inputs, attrs, [{}, {}])
    dtype = str(start.ty.dtype)
    length = limit if step == 1 else tirx.floordiv(limit + (step - 1), step)
    positions = bb.emit(relax.op.arange(0, length, 1, dtype))
    return positions if step == 1 else relax.op.multiply(positions, relax.const(step, dtype))


def _integer(value: relax.Expr) -> int | None:
    """The integer that a constant of one element is; None where it is none."""
    if not isinstance(value, GenericConst) or not str(value.ty.dtype).startswith("int"):
        return None
    return int(value.value.numpy().item())
