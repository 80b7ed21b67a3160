"""Sizes that a model computes: numbers of a tensor as the shape of another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import GenericConst
from tvm.relax.frontend.onnx import onnx_frontend
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.known_values import values_of
from tilewright.compiler.lower import OPAQUE
from tilewright.errors import UnsupportedModel

# (block builder, inputs, attributes, opset) -> expression
Converter = Callable[[relax.BlockBuilder, list, dict, int], relax.Expr]
Size = int | tirx.Expr


def is_computed(value: relax.Expr | None) -> bool:
    """Whether a value is a tensor whose numbers are only known at run time."""
    tensor = value is not None and isinstance(value.ty, relax.TensorType)
    return tensor and not isinstance(value, GenericConst)


def stock(
    operator: str, bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int
) -> relax.Expr:
    """What TVM's own converter makes of it; it takes inputs that are not given for None."""
    given = onnx_frontend.onnx_input()
    given.extend(inputs)
    return getattr(onnx_frontend, operator).get_converter(opset)(bb, given, attrs, [{}, {}])


def where_computed(operator: str, places: Sequence[int], ours: Converter) -> Converter:
    """`ours` where one of the inputs at `places` is computed; TVM's own converter elsewhere."""

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        inputs = list(inputs)
        for place in places:
            if place < len(inputs):
                inputs[place] = as_known(bb, inputs[place])
        if any(is_computed(inputs[place]) for place in places if place < len(inputs)):
            return ours(bb, inputs, attrs, opset)
        return stock(operator, bb, inputs, attrs, opset)

    return convert


def as_known(bb: relax.BlockBuilder, value: relax.Expr | None) -> relax.Expr | None:
    """`value`, a shape or a constant where it is a vector that is not computed from data."""
    if not is_computed(value) or value.ty.ndim != 1:
        return value
    values = values_of(bb, value)
    if values is None:
        return value
    if all(isinstance(number, IntImm) for number in values):
        return relax.const(np.array([int(number) for number in values], str(value.ty.dtype)))
    return relax.ShapeExpr(values)


def length_of(vector: relax.Expr, what: str) -> int:
    """How many numbers a vector has. Raises UnsupportedModel where that is open."""
    shape = vector.ty.shape
    size = shape[0] if shape is not None and len(shape) == 1 else None
    if not isinstance(size, IntImm):
        raise UnsupportedModel(
            f"it is not known how many {what} there are",
            expected=f"a vector of {what} with a fixed length",
            hint="fix the open dimensions with --dim or --shape",
        )
    return int(size)


def vector_of(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
    """The shape of `x` as an int64 vector."""
    sizes = list(x.ty.shape)
    if all(isinstance(size, IntImm) for size in sizes):
        return numbers([int(size) for size in sizes])
    return bb.emit(relax.op.shape_to_tensor(relax.ShapeExpr(sizes)))


def numbers(values: Sequence[int] | np.ndarray) -> relax.Expr:
    """Integers as an int64 constant."""
    return relax.const(np.asarray(values, np.int64), "int64")


def before(count: int) -> np.ndarray:
    """A matrix whose row n is 1 for what is before n: its product counts that."""
    return np.tril(np.ones((count, count), np.int64), -1)


def sizes_of(bb: relax.BlockBuilder, vector: relax.Expr, name: str) -> list[Size]:
    """The numbers of an int64 vector as sizes, called after `name` where they are computed."""
    count = length_of(vector, "sizes")
    if isinstance(vector, GenericConst):
        return [int(value) for value in vector.value.numpy()]
    if values := values_of(bb, vector):
        return values
    made = [tirx.Var(f"{name}_{n}", "int64") for n in range(count)]
    bb.match_cast(bb.emit(relax.op.tensor_to_shape(vector)), relax.ShapeType(made))
    return made


def kernel(bb: relax.BlockBuilder, compute: Callable, *args: object, name: str) -> relax.Var:
    """What a tensor expression makes of `args`, as a kernel that is fused with nothing.

    TVM's fusion fails on two kernels that have the same computed size.
    """
    given = [_sized(bb, arg, name) if isinstance(arg, relax.Expr) else arg for arg in args]
    return bb.emit_te(
        compute, *given, primfunc_name_hint=name, primfunc_attrs={"op_pattern": OPAQUE}
    )


def _sized(bb: relax.BlockBuilder, x: relax.Expr, name: str) -> relax.Expr:
    """`x` with names for its sizes, where Relax has lost them."""
    if not isinstance(x.ty, relax.TensorType) or isinstance(x.ty.shape, relax.ShapeExpr):
        return x
    sizes = [tirx.Var(f"{name}_{n}", "int64") for n in range(x.ty.ndim)]
    return bb.match_cast(x, relax.TensorType(sizes, str(x.ty.dtype)))


def as_int64(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
    """`x` as int64."""
    if str(x.ty.dtype) == "int64":
        return x
    return bb.emit(relax.op.astype(x, "int64"))


def from_start(bb: relax.BlockBuilder, axes: relax.Expr, rank: int) -> relax.Expr:
    """Axes of which the negative ones count from the end, as int64 from the start."""
    axes = as_int64(bb, axes)
    negative = relax.op.less(axes, numbers(0))
    return bb.emit(relax.op.where(negative, relax.op.add(axes, numbers(rank)), axes))


def chosen(bb: relax.BlockBuilder, axes: relax.Expr, rank: int, otherwise: int = 0) -> relax.Expr:
    """For each of `rank` axes 1 where it is one of `axes`, else 0: int64.

    Where `axes` is empty, all are `otherwise`.
    """
    length = axes.ty.shape[0]
    if isinstance(length, IntImm) and int(length) == 0:
        return numbers([otherwise] * rank)

    def compute(axes: te.Tensor) -> te.Tensor:
        def is_one(n: tirx.Var, j: tirx.Var) -> tirx.Expr:
            axis = axes[j].astype("int64")
            return tirx.any(axis == n.astype("int64"), axis + rank == n.astype("int64"))

        j = te.reduce_axis((0, axes.shape[0]), "j")
        found = te.compute((rank,), lambda n: te.max(is_one(n, j).astype("int64"), axis=j))
        # A loop over nothing writes nothing.
        nothing = axes.shape[0] == 0
        default = tirx.const(otherwise, "int64")
        return te.compute((rank,), lambda n: tirx.Select(nothing, default, found[n]))

    return kernel(bb, compute, axes, name="chosen")
