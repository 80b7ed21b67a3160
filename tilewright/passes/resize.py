"""The lowering of a bilinear resize whose sizes are known.

    rows[h] = (1 - share[h]) * x[first[h]] + share[h] * x[second[h]]

Which neighbours and what share of the second are tables; TVM would compute them for each element.
Source: https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax, te, tirx


def lower_resize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """`relax.image.resize2d`, one axis after the other; TVM's lowering where it is no such resize.

    With channels last TVM's is as fast: a vector of channels shares what is computed.
    """
    x, attrs = call.args[0], call.attrs
    known = all(isinstance(size, tirx.IntImm) for size in (*x.ty.shape, *call.ty.shape))
    ours = str(attrs.layout) == "NCHW" and attrs.method == "linear"
    if not (known and ours and str(x.ty.dtype) == "float32"):
        return tvm.ir.Op.get("relax.image.resize2d").get_attr("FLegalize")(bb, call)
    how = str(attrs.coordinate_transformation_mode)
    # Rows are picked whole, numbers of a row one by one: these in the image that has fewer rows.
    taller = int(call.ty.shape[2]) > int(x.ty.shape[2])
    for axis in (3, 2) if taller else (2, 3):
        before, after = int(x.ty.shape[axis]), int(call.ty.shape[axis])
        if before != after:
            x = bb.emit(_along(bb, x, axis, neighbours(before, after, how)))
    return x


def neighbours(before: int, after: int, how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `after` numbers: its two neighbours among `before`, and the second's share.

    Where it lies on one of them, both are that one: no share of an infinity is 0 times it.
    """
    at = np.arange(after, dtype=np.float64)
    if how == "align_corners":
        position = at * (before - 1) / (after - 1) if after > 1 else at
    elif how == "asymmetric":
        position = at * before / after
    elif how == "pytorch_half_pixel" and after == 1:
        position = at
    else:
        position = (at + 0.5) * before / after - 0.5
    floor = np.floor(position)
    places = (floor, floor + (position > floor))
    first, second = (np.clip(place, 0, before - 1).astype(np.int32) for place in places)
    return first, second, np.where(first == second, 0.5, position - floor).astype(np.float32)


def _along(
    bb: relax.BlockBuilder, x: relax.Expr, axis: int, tables: tuple[np.ndarray, ...]
) -> relax.Expr:
    def resize(x: te.Tensor, first: te.Tensor, second: te.Tensor, share: te.Tensor) -> te.Tensor:
        shape = [first.shape[0] if n == axis else size for n, size in enumerate(x.shape)]

        def element(*at: tirx.Var) -> tirx.Expr:
            o = at[axis]
            a, b = (x(*at[:axis], which[o], *at[axis + 1 :]) for which in (first, second))
            return (1 - share[o]) * a + share[o] * b

        return te.compute(shape, element, name="resize")

    constants = [relax.const(table, str(table.dtype)) for table in tables]
    return bb.call_te(resize, x, *constants, primfunc_name_hint="resize")
