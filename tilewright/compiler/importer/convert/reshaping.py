"""Converters of operators that are given a shape, where the shape is computed.

Where it is known, or computed from open dimensions alone, TVM's own converters do.
"""

from __future__ import annotations

import numpy as np
import tvm_ffi
from onnx import numpy_helper
from tvm import relax, te, tirx
from tvm.ir import is_prim_expr
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.known_values import values_of
from tilewright.compiler.importer.convert.sizes import (
    Size,
    as_int64,
    before,
    chosen,
    is_computed,
    kernel,
    length_of,
    numbers,
    sizes_of,
    stock,
    vector_of,
)
from tilewright.compiler.small_types import computed
from tilewright.errors import UnsupportedModel
from tilewright.passes.relax_constants import array_of, is_constant


def reshape(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Reshape; 0 keeps a size unless `allowzero`, -1 is what is left (ONNX operator Reshape)."""
    x, shape = inputs
    if is_prim_expr(x):
        # One open size. As a vector of one it can be part of a shape again.
        if is_constant(shape) and array_of(shape).size == 1:
            return relax.ShapeExpr([x])
        x = bb.emit(relax.op.shape_to_tensor(relax.ShapeExpr([x])))
    known = values_of(bb, shape) if isinstance(x.ty, relax.TensorType) else None
    if known is not None and is_computed(shape):
        return relax.op.reshape(x, _kept_sizes(x, known, bool(attrs.get("allowzero", 0))))
    if not is_computed(shape):
        return stock("Reshape", bb, [x, shape], attrs, opset)
    wanted = as_int64(bb, shape)
    count = length_of(wanted, "sizes")
    own = vector_of(bb, x)
    if not attrs.get("allowzero", 0):
        kept = _of_length(bb, own, count)
        wanted = bb.emit(relax.op.where(relax.op.equal(wanted, numbers(0)), kept, wanted))
    # One size may be -1, so that their product tells that of the others.
    rest = relax.op.maximum(relax.op.abs(relax.op.prod(wanted)), numbers(1))
    left = relax.op.floor_divide(relax.op.prod(own), rest)
    sizes = bb.emit(relax.op.where(relax.op.less(wanted, numbers(0)), left, wanted))
    return relax.op.reshape(x, relax.ShapeExpr(sizes_of(bb, sizes, "size")))


def _kept_sizes(x: relax.Expr, sizes: list[Size], zeros: bool) -> list[Size]:
    """`sizes`, of which a 0 is the size that x has there, unless `zeros` count."""
    return [
        x.ty.shape[axis] if not zeros and isinstance(size, IntImm) and int(size) == 0 else size
        for axis, size in enumerate(sizes)
    ]


def expand(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Expand: x and the shape are broadcast to each other (ONNX operator Expand)."""
    x, shape = inputs
    fixed = all(isinstance(size, IntImm) for size in x.ty.shape)
    if not is_computed(shape) and (fixed or not is_constant(shape)):
        return stock("Expand", bb, inputs, attrs, opset)
    if is_constant(shape) and (known := _broadcast(list(x.ty.shape), array_of(shape).tolist())):
        return relax.op.broadcast_to(x, relax.ShapeExpr(known))
    wanted = as_int64(bb, shape)
    count, rank = length_of(wanted, "sizes"), x.ty.ndim
    whole = max(count, rank)
    ones = (numbers([1] * (whole - size)) for size in (count, rank))
    wanted, own = (
        bb.emit(relax.op.concat([one, vector], 0))
        for one, vector in zip(ones, (wanted, vector_of(bb, x)), strict=True)
    )
    sizes = bb.emit(relax.op.where(relax.op.equal(own, numbers(1)), wanted, own))

    def compute(x: te.Tensor, sizes: list[Size]) -> te.Tensor:
        def place(at: tuple) -> list:
            own = zip(at[whole - rank :], x.shape, strict=True)
            return [tirx.Select(size == 1, tirx.const(0, "int64"), i) for i, size in own]

        return te.compute(sizes, lambda *at: x(*place(at)), name="expand")

    return kernel(bb, compute, x, sizes_of(bb, sizes, "size"), name="expand")


def _broadcast(own: list[Size], wanted: list[int]) -> list[Size] | None:
    """The sizes of both; None where an open one may be 1 and may be the size that is wanted."""
    whole = max(len(own), len(wanted))
    own = [tirx.IntImm("int64", 1)] * (whole - len(own)) + own
    wanted = [1] * (whole - len(wanted)) + wanted
    pairs = list(zip(own, wanted, strict=True))
    if any(not isinstance(size, IntImm) and number != 1 for size, number in pairs):
        return None
    return [
        number if isinstance(size, IntImm) and int(size) == 1 else size for size, number in pairs
    ]


def constant_of_shape(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """ConstantOfShape: one value everywhere, by default 0 in float32."""
    value = attrs.get("value")
    array = np.zeros(1, np.float32) if value is None else _array(value)
    number = relax.const(array.reshape(())[()], str(array.dtype))
    sizes = sizes_of(bb, as_int64(bb, inputs[0]), "size")
    return relax.op.full(relax.ShapeExpr(sizes), number, str(array.dtype))


def unsqueeze(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Unsqueeze: the new axes have size 1, the others their sizes in order."""
    x, axes = inputs
    rank = x.ty.ndim
    whole = rank + length_of(axes, "axes")
    new = chosen(bb, axes, whole)
    if rank == 0:
        return relax.op.reshape(x, [1] * whole)
    # How many axes of x are before each of the result's.
    earlier = relax.op.sum(relax.op.multiply(numbers(before(whole)), new), 1)
    place = relax.op.subtract(numbers(range(whole)), earlier)
    inside = relax.op.minimum(place, numbers(rank - 1))
    own = relax.op.take(vector_of(bb, x), inside, 0)
    sizes = relax.op.where(relax.op.greater(new, numbers(0)), numbers(1), own)
    return relax.op.reshape(x, relax.ShapeExpr(sizes_of(bb, bb.emit(sizes), "size")))


def squeeze(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Squeeze; of an axis whose size is open, it is checked when the model runs that it is 1."""
    x, *rest = inputs
    axes = attrs.get("axes")
    if rest and rest[0] is not None and is_constant(rest[0]):
        axes = array_of(rest[0]).ravel().tolist()
    shaped = isinstance(x.ty, relax.TensorType) and isinstance(x.ty.shape, relax.ShapeExpr)
    if axes is not None and shaped and not is_constant(x):
        sizes = list(x.ty.shape)
        for axis in axes:
            if not isinstance(sizes[axis], IntImm):
                sizes[axis] = tirx.IntImm("int64", 1)
        if not all(map(tvm_ffi.structural_equal, sizes, x.ty.shape)):
            x = bb.match_cast(x, relax.TensorType(sizes, str(x.ty.dtype)))
    return stock("Squeeze", bb, [x, *rest], attrs, opset)


def _of_length(bb: relax.BlockBuilder, vector: relax.Expr, count: int) -> relax.Expr:
    """The first `count` numbers; where there are not so many, 1 for the others."""
    have = int(vector.ty.shape[0]) if isinstance(vector.ty.shape[0], IntImm) else 0
    if have > count:
        return bb.emit(relax.op.strided_slice(vector, [0], [0], [count]))
    if have < count:
        return bb.emit(relax.op.concat([vector, numbers([1] * (count - have))], 0))
    return vector


def _array(value: object) -> np.ndarray:
    return computed(numpy_helper.to_array(value))


def constant(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Constant, in a branch too: those of the main graph are folded before."""
    if "value" in attrs:
        array = _array(attrs["value"])
        return relax.const(array, str(array.dtype))
    for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
        for key in (name, f"{name}s"):
            if key in attrs:
                return relax.const(np.asarray(attrs[key], dtype), np.dtype(dtype).name)
    raise UnsupportedModel(
        f"a constant as {', '.join(set(attrs) - {'tvm_custom'})}", expected="numbers"
    )


def optional_has_element(
    bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int
) -> relax.Expr:
    """OptionalHasElement, which is false where it is given nothing (since version 18)."""
    if any(value is not None for value in inputs):
        return stock("OptionalHasElement", bb, inputs, attrs, opset)
    return relax.const(False, "bool")
