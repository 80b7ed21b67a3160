"""Integer tensors whose numbers are known, or are expressions of open sizes, before anything runs.

    shape_to_tensor(n, 3, h, w) -> astype int32 -> strided_slice [2:] -> astype int64     = [h, w]

Exporters compute with shapes. TVM's importer follows them as long as they stay shapes, and loses
them where a model makes numbers of them, say by a Cast to int32.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst, is_prim_expr

# Shapes are short; a longer vector is data.
_LONGEST = 16
_ARITHMETIC: dict[str, Callable[[tirx.Expr, tirx.Expr], tirx.Expr]] = {
    "relax.add": lambda a, b: a + b,
    "relax.subtract": lambda a, b: a - b,
    "relax.multiply": lambda a, b: a * b,
    "relax.floor_divide": tirx.floordiv,
    "relax.maximum": tirx.max,
    "relax.minimum": tirx.min,
    "relax.equal": lambda a, b: a == b,
    "relax.not_equal": lambda a, b: a != b,
    "relax.less": lambda a, b: a < b,
    "relax.less_equal": lambda a, b: a <= b,
    "relax.greater": lambda a, b: a > b,
    "relax.greater_equal": lambda a, b: a >= b,
    "relax.logical_and": tirx.all,
    "relax.logical_or": tirx.any,
}
# The numbers stay, in their order.
_KEEPS = ("relax.reshape", "relax.expand_dims", "relax.squeeze")


def values_of(bb: relax.BlockBuilder, x: relax.Expr) -> list[tirx.Expr] | None:
    """The numbers of a tensor of integers or truths, of at most one axis; None where they are data.

    Integers are int64, whatever the tensor's.
    """
    if isinstance(x, relax.ShapeExpr):
        return list(x.values)
    if isinstance(x, GenericConst):
        return _constants(x)
    if is_prim_expr(x):
        return [x]
    if isinstance(x, relax.Var):
        bound = bb.lookup_binding(x)
        return None if bound is None else values_of(bb, bound)
    if not isinstance(x, relax.Call) or not _is_short(x):
        return None
    name = getattr(x.op, "name", "")
    if name in _KEEPS:
        return values_of(bb, x.args[0])
    if name == "relax.size":
        return _product(getattr(x.args[0].ty, "shape", None))
    if name in ("relax.astype", "relax.logical_not"):
        return _changed(name, str(x.ty.dtype), values_of(bb, x.args[0]))
    if name == "relax.shape_to_tensor":
        return _sizes(bb, x.args[0])
    if name in _ARITHMETIC:
        return _elementwise(_ARITHMETIC[name], *(values_of(bb, arg) for arg in x.args))
    if name == "relax.concat":
        return _joined(bb, x.args[0])
    if name == "relax.strided_slice":
        return _sliced(bb, x)
    if name == "relax.take":
        return _taken(values_of(bb, x.args[0]), values_of(bb, x.args[1]))
    if name == "relax.where":
        return _elementwise(tirx.Select, *(values_of(bb, arg) for arg in x.args))
    return None


def _is_short(x: relax.Call) -> bool:
    """Whether it is such a tensor, of a length that is known."""
    ty = x.ty
    if not isinstance(ty, relax.TensorType) or ty.ndim not in (0, 1):
        return False
    if not str(ty.dtype).startswith(("int", "uint", "bool")):
        return False
    sizes = list(ty.shape) if isinstance(ty.shape, relax.ShapeExpr) else [None]
    return all(isinstance(size, tirx.IntImm) and int(size) <= _LONGEST for size in sizes)


def _constants(x: relax.Expr) -> list[tirx.Expr] | None:
    if not isinstance(x, GenericConst):
        return None
    array = x.value.numpy()
    if array.ndim > 1 or array.size > _LONGEST or array.dtype.kind not in "iub":
        return None
    dtype = "bool" if array.dtype.kind == "b" else "int64"
    return [tirx.IntImm(dtype, int(value)) for value in array.reshape(-1)]


def _changed(name: str, dtype: str, values: list[tirx.Expr] | None) -> list[tirx.Expr] | None:
    """What a Cast to `dtype` makes of numbers, or a Not of truths."""
    if values is None:
        return None
    simplify = tvm.sym.Analyzer().simplify
    truths = [str(value.ty.dtype) == "bool" for value in values]
    if name == "relax.logical_not":
        return [simplify(tirx.Not(value)) for value in values] if all(truths) else None
    if dtype == "bool":
        return [v if t else simplify(v != 0) for v, t in zip(values, truths, strict=True)]
    return [v.astype("int64") if t else v for v, t in zip(values, truths, strict=True)]


def _product(shape: relax.Expr | None) -> list[tirx.Expr] | None:
    sizes = getattr(shape, "values", None)
    one = tirx.IntImm("int64", 1)
    return None if sizes is None else [math.prod(sizes, start=one)]


def _sizes(bb: relax.BlockBuilder, shape: relax.Expr) -> list[tirx.Expr] | None:
    if isinstance(shape, relax.Var):
        bound = bb.lookup_binding(shape)
        shape = shape.ty if bound is None else bound
    if isinstance(shape, relax.Call) and getattr(shape.op, "name", "") == "relax.shape_of":
        shape = getattr(shape.args[0].ty, "shape", None)
    values = getattr(shape, "values", None)
    return None if values is None else list(values)


def _elementwise(
    compute: Callable[..., tirx.Expr], *sides: list[tirx.Expr] | None
) -> list[tirx.Expr] | None:
    if any(side is None for side in sides):
        return None
    length = max(map(len, sides))
    if {*map(len, sides)} - {1, length}:
        return None
    wide = (side * length if len(side) == 1 else side for side in sides)
    simplify = tvm.sym.Analyzer().simplify
    return [simplify(compute(*numbers)) for numbers in zip(*wide, strict=True)]


def _taken(
    values: list[tirx.Expr] | None, places: list[tirx.Expr] | None
) -> list[tirx.Expr] | None:
    if values is None or places is None or not all(isinstance(p, tirx.IntImm) for p in places):
        return None
    inside = [int(place) for place in places]
    return [values[at] for at in inside] if all(0 <= at < len(values) for at in inside) else None


def _joined(bb: relax.BlockBuilder, parts: relax.Expr) -> list[tirx.Expr] | None:
    parts = bb.lookup_binding(parts) if isinstance(parts, relax.Var) else parts
    if not isinstance(parts, relax.Tuple):
        return None
    values: list[tirx.Expr] = []
    for part in parts.fields:
        own = values_of(bb, part)
        if own is None:
            return None
        values += own
    return values


def _sliced(bb: relax.BlockBuilder, x: relax.Call) -> list[tirx.Expr] | None:
    values = values_of(bb, x.args[0])
    # Axes, begins and ends, and, where they are given, steps: of the only axis.
    bounds = [_numbers(arg) for arg in x.args[1:]]
    if values is None or any(bound is None or len(bound) != 1 for bound in bounds):
        return None
    step = bounds[3][0] if len(bounds) > 3 else 1
    return values[bounds[1][0] : bounds[2][0] : step] if step > 0 else None


def _numbers(x: relax.Expr) -> list[int] | None:
    """A tuple of numbers, as operators take axes and places."""
    if not isinstance(x, relax.Tuple):
        return None
    values = [getattr(field, "value", field) for field in x.fields]
    return (
        [int(v) for v in values] if all(isinstance(v, int | tirx.IntImm) for v in values) else None
    )
