"""Converters of operators that select by index."""

from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.ir import GenericConst
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
