"""Converters of operators that select by index."""

from __future__ import annotations

import numpy as np
from onnx import helper
from tvm import relax, te, tirx
from tvm.ir import GenericConst, is_prim_expr
from tvm.tirx import IntImm

from tilewright.compiler.importer.convert.sizes import (
    Size,
    as_int64,
    is_computed,
    kernel,
    numbers,
    sizes_of,
    stock,
)
from tilewright.compiler.importer.graph import text
from tilewright.compiler.small_types import computed_name
from tilewright.errors import ModelError


def gather(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Gather; negative indices count from the end (ONNX operator Gather, since version 11).

    TVM's own converter asks for the table's size at run time, six operators per embedding.
    """
    table, indices = inputs
    axis = attrs.get("axis", 0)
    size = table.ty.shape[axis] if isinstance(table.ty, relax.TensorType) else None
    plain = isinstance(size, IntImm) and not isinstance(indices, relax.ShapeExpr)
    if not plain or (isinstance(table, GenericConst) and isinstance(indices, GenericConst)):
        return stock("Gather", bb, inputs, attrs, opset)
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
    it equals, and what has the one cannot be added to what has the other. The length may be a
    matter of numbers that are computed, too.
    """
    start, limit, delta = inputs
    step = _integer(delta)
    if any(is_computed(value) for value in inputs):
        return _computed_range(bb, start, limit, delta)
    if isinstance(limit, tirx.Cast):
        # A size that a model has made a float.
        limit = limit.value
    whole = is_prim_expr(limit) and str(limit.ty.dtype).startswith("int")
    if _integer(start) != 0 or not step or step < 0 or not whole:
        return stock("Range", bb, inputs, attrs, opset)
    dtype = str(start.ty.dtype)
    length = limit if step == 1 else tirx.floordiv(limit + (step - 1), step)
    positions = bb.emit(relax.op.arange(0, length, 1, "int64"))
    if dtype != "int64":
        positions = bb.emit(relax.op.astype(positions, dtype))
    return positions if step == 1 else relax.op.multiply(positions, relax.const(step, dtype))


def _computed_range(
    bb: relax.BlockBuilder, start: relax.Expr, limit: relax.Expr, delta: relax.Expr
) -> relax.Expr:
    """Start + n * delta for the ceil((limit - start) / delta) numbers before the limit."""
    first, last, step = (_scalar_tensor(bb, value) for value in (start, limit, delta))
    dtype = str(step.ty.dtype)
    if dtype.startswith("float"):
        # As ONNX counts: in float32, 0.3 / 0.1 is 3.
        ends = (relax.op.astype(value, "float64") for value in (first, last, step))
        low, high, wide = map(bb.emit, ends)
        count = relax.op.ceil(relax.op.divide(relax.op.subtract(high, low), wide))
    else:
        # Rounded up: minus the quotient of what is negative, rounded down.
        count = relax.op.negative(relax.op.floor_divide(relax.op.subtract(first, last), step))
    count = relax.op.maximum(relax.op.astype(count, "int64"), numbers(0))
    (size,) = sizes_of(bb, bb.emit(relax.op.reshape(count, [1])), "length")

    def compute(first: te.Tensor, step: te.Tensor, size: Size) -> te.Tensor:
        return te.compute((size,), lambda n: first() + n.astype(dtype) * step(), name="range")

    return kernel(bb, compute, first, step, size, name="range")


def _scalar_tensor(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
    """A number as a tensor without axes: sizes of inputs are expressions of their own."""
    if is_prim_expr(value):
        value = bb.emit(relax.op.shape_to_tensor(relax.ShapeExpr([value])))
    return bb.emit(relax.op.reshape(value, []))


def split(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Split into parts whose sizes are computed, or some of which are empty: TVM refuses those."""
    x, axis = inputs[0], attrs.get("axis", 0) % inputs[0].ty.ndim
    if len(inputs) < 2 or not isinstance(inputs[1].ty, relax.TensorType):
        return stock("Split", bb, inputs, attrs, opset)
    if isinstance(inputs[1], GenericConst):
        sizes = [int(size) for size in inputs[1].value.numpy().reshape(-1)]
        _check_parts(sizes, x.ty.shape[axis], attrs["tvm_custom"]["num_outputs"])
        if all(sizes):
            return stock("Split", bb, inputs, attrs, opset)
    else:
        sizes = sizes_of(bb, as_int64(bb, inputs[1]), "part")

    def compute(x: te.Tensor, start: Size, size: Size) -> te.Tensor:
        shape = [size if n == axis else own for n, own in enumerate(x.shape)]
        return te.compute(
            shape,
            lambda *at: x(*(i + start if n == axis else i for n, i in enumerate(at))),
            name="part",
        )

    starts = [tirx.const(0, "int64")]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    parts = zip(starts, sizes, strict=True)
    return relax.Tuple([kernel(bb, compute, x, *part, name="part") for part in parts])


# A step beyond any size takes one element, like one of 2^63, with which TVM's sizes overflow.
_LONGEST_STEP = 1 << 31
# Exporters write the largest int32 or int64 for "up to the end".
_NO_END = (1 << 31) - 1


def slice_(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Slice (ONNX operator Slice): TVM refuses what goes back from before its end, to nothing."""
    x, *given = inputs
    if opset < 10 or not all(isinstance(v, GenericConst) for v in given if v is not None):
        return stock("Slice", bb, inputs, attrs, opset)
    starts, ends, axes, steps = [
        None if v is None else v.value.numpy().tolist()
        for v in (*given, *[None] * (4 - len(given)))
    ]
    if not isinstance(x.ty, relax.TensorType) or len(starts) != len(ends):
        return stock("Slice", bb, inputs, attrs, opset)
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if {len(axes), len(steps)} != {len(starts)}:
        return stock("Slice", bb, inputs, attrs, opset)
    for n, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        size = x.ty.shape[axis] if -x.ty.ndim <= axis < x.ty.ndim else None
        if step and isinstance(size, IntImm):
            steps[n] = max(-_LONGEST_STEP, min(step, _LONGEST_STEP))
            if not range(*slice(starts[n], ends[n], step).indices(size.value)):
                starts[n], ends[n], steps[n] = 0, 0, 1
    rows = list(zip(starts, ends, axes, steps, strict=True))
    if all(isinstance(size, IntImm) for size in x.ty.shape):
        return stock("Slice", bb, [x, *map(numbers, zip(*rows, strict=True))], attrs, opset)
    return _sliced_open(bb, x, rows)


def _sliced_open(bb: relax.BlockBuilder, x: relax.Expr, rows: list) -> relax.Expr:
    """`x` with open sizes, sliced.

    "Up to the end" is up to the size. Of the number that stands for it, as 2^31 - 1, TVM makes the
    size min(2^31 - 1, n): nobody can prove that to be n, and as much memory is planned for it.
    """
    left = []
    for start, end, axis, step in rows:
        axis %= x.ty.ndim
        size = x.ty.shape[axis]
        if isinstance(size, IntImm) and step > 0:
            start, end, step = slice(start, end, step).indices(size.value)
            if (start, end, step) == (0, size.value, 1):
                continue
        if step < 0 and end <= -_NO_END and not isinstance(size, IntImm):
            x = bb.emit(_backwards(bb, x, axis, start, -step))
            continue
        if not isinstance(size, IntImm) and end >= _NO_END:
            if (start, step) == (0, 1):
                continue
            # Of one that might be negative TVM makes a choice that it has no code for.
            end = size if isinstance(size, tirx.Var) else tirx.max(size, 0)
        left.append((axis, start, end, step))
    if not left:
        return x
    axes, starts, ends, steps = map(list, zip(*left, strict=True))
    return relax.op.strided_slice(x, axes, starts, ends, steps)


def _backwards(
    bb: relax.BlockBuilder, x: relax.Expr, axis: int, start: int, step: int
) -> relax.Expr:
    """From `start` back to the first element, every `step`th; from the nearest where none is."""

    def compute(x: te.Tensor) -> te.Tensor:
        size = x.shape[axis]
        first = size - 1
        if start < -1:
            first = tirx.max(size + start, 0)
        elif 0 <= start < _NO_END:
            first = tirx.min(start, size - 1)
        shape = [*x.shape[:axis], first // step + 1, *x.shape[axis + 1 :]]
        return te.compute(
            shape, lambda *at: x(*at[:axis], first - at[axis] * step, *at[axis + 1 :])
        )

    return kernel(bb, compute, x, name="backwards")


def _check_parts(sizes: list[int], whole: object, count: int) -> None:
    """As onnx does, but for vectors that are too long to stay in the graph."""
    fits = len(sizes) == count and all(size >= 0 for size in sizes)
    if not fits or (isinstance(whole, IntImm) and sum(sizes) != whole.value):
        raise ModelError(
            f"the sizes of the parts do not fit: {len(sizes)}, {sum(sizes)} in all",
            expected=f"{count}, none negative, {whole} in all",
        )


def one_hot(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """OneHot: `values` are off and on; negative indices count from the end."""
    indices, depth, values = inputs
    rank = indices.ty.ndim + 1
    axis = attrs.get("axis", -1) % rank
    vector = bb.emit(relax.op.reshape(as_int64(bb, depth), [1]))
    known = numbers(depth.value.numpy().reshape(1)) if isinstance(depth, GenericConst) else vector
    (size,) = sizes_of(bb, known, "depth")

    def compute(indices: te.Tensor, values: te.Tensor, size: Size) -> te.Tensor:
        shape = [*indices.shape[:axis], size, *indices.shape[axis:]]

        def element(*at: tirx.Var) -> tirx.Expr:
            index = indices(*at[:axis], *at[axis + 1 :])
            here = tirx.any(index == at[axis], index + size == at[axis])
            return tirx.Select(here, values[1], values[0])

        return te.compute(shape, element, name="one_hot")

    return kernel(bb, compute, as_int64(bb, indices), values, size, name="one_hot")


def _integer(value: relax.Expr) -> int | None:
    """The whole number that a constant of one element is; None where it is none."""
    if not isinstance(value, GenericConst):
        return None
    number = value.value.numpy().item()
    return int(number) if float(number).is_integer() else None


def eye_like(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """EyeLike: 1 on the k-th diagonal of a matrix as large as x (since version 9)."""
    x, offset = inputs[0], int(attrs.get("k", 0))
    said = attrs.get("dtype")
    dtype = computed_name(helper.tensor_dtype_to_np_dtype(said).name) if said else str(x.ty.dtype)

    def compute(x: te.Tensor) -> te.Tensor:
        return te.compute(
            x.shape,
            lambda i, j: tirx.Select(j - i == offset, tirx.const(1, dtype), tirx.const(0, dtype)),
            name="eye",
        )

    return kernel(bb, compute, x, name="eye")


def reverse_sequence(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """ReverseSequence: of each batch the first `lengths` steps, the last of them first."""
    x, lengths = inputs
    batch, time = attrs.get("batch_axis", 1), attrs.get("time_axis", 0)

    def compute(x: te.Tensor, lengths: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Var) -> tirx.Expr:
            length = lengths[at[batch]].astype("int64")
            step = at[time].astype("int64")
            turned = tirx.Select(step < length, length - 1 - step, step)
            return x(*(turned if n == time else i for n, i in enumerate(at)))

        return te.compute(x.shape, element, name="reverse_sequence")

    return kernel(bb, compute, x, lengths, name="reverse_sequence")


def tensor_scatter(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """TensorScatter: a cache with new steps in it, for each batch from its own place on.

    A circular cache goes on at its start (ONNX, since version 24).
    """
    cache, update, starts = [*inputs, None][:3]
    axis = attrs.get("axis", -2) % cache.ty.ndim
    circular = text(attrs.get("mode", "linear")) == "circular"

    def compute(cache: te.Tensor, update: te.Tensor, *starts: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Var) -> tirx.Expr:
            step = at[axis].astype("int64") - (starts[0](at[0]) if starts else 0)
            if circular:
                step = tirx.floormod(step, cache.shape[axis])
            new = update(*(step if n == axis else i for n, i in enumerate(at)))
            inside = tirx.all(step >= 0, step < update.shape[axis])
            return tirx.if_then_else(inside, new, cache(*at))

        return te.compute(cache.shape, element, name="tensor_scatter")

    given = [] if starts is None else [as_int64(bb, starts)]
    return kernel(bb, compute, cache, update, *given, name="tensor_scatter")
