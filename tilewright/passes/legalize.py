"""Graph operators to TIR kernels, with our own lowering where TVM's answers differ from ONNX's.

- `max(0, x)` with the constant first keeps NaN, as ONNX Runtime does; TVM writes `max(x, 0)`.
- The larger or smaller of two values is NaN when either is; TVM drops the first one's.
- A maximum over -inf alone is -inf; TVM's starts from the smallest finite number.
- Long sums are sums of partial sums. One number after the other, each is rounded to a result that
  grows, always the same way where the numbers are alike: K roundings err as K, not as sqrt(K).
  Numbers of 16 bits are added in float32, as ONNX Runtime does; float32 numbers in float64 where
  nobody knows how many there are, where parts would be few, and in a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tvm
from tvm import relax, te, tirx, topi

from tilewright.passes.resize import lower_resize


def _relu(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    def relu(x: te.Tensor) -> te.Tensor:
        zero = tirx.const(0, x.dtype)
        return te.compute(x.shape, lambda *i: tirx.max(zero, x(*i)), name="relu", tag="elemwise")

    return bb.call_te(relu, call.args[0], primfunc_name_hint="relu")


def _clip(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    low, high = call.args[1], call.args[2]

    def clip(x: te.Tensor) -> te.Tensor:
        least, most = (tirx.const(bound.value, x.dtype) for bound in (low, high))
        return te.compute(
            x.shape,
            lambda *i: tirx.min(most, tirx.max(least, x(*i))),
            name="clip",
            tag="elemwise",
        )

    return bb.call_te(clip, call.args[0], primfunc_name_hint="clip")


def _pairwise(name: str, pick: Callable) -> Callable:
    def lower(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        stock = getattr(topi, name)
        if not str(call.ty.dtype).startswith("float"):
            return bb.call_te(stock, *call.args, primfunc_name_hint=name)

        def keep_nan(a: te.Tensor, b: te.Tensor) -> te.Tensor:
            wide = stock(a, b).shape
            a, b = (topi.broadcast_to(t, wide) for t in (a, b))
            return te.compute(
                wide, lambda *i: _nan_or(pick, a(*i), b(*i)), name=name, tag="broadcast"
            )

        return bb.call_te(keep_nan, *call.args, primfunc_name_hint=name)

    return lower


def _nan_or(pick: Callable, a: tirx.Expr, b: tirx.Expr) -> tirx.Expr:
    """`pick(a, b)`, which is b when either is NaN, or a where that is NaN."""
    return tirx.Select(tirx.isnan(a), a, pick(a, b))


def _extreme(name: str, pick: Callable, start: float) -> Callable:
    def lower(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        dtype = str(call.args[0].ty.dtype)
        if not dtype.startswith("float"):
            return bb.call_te(getattr(topi, name), call.args[0], *_reduction(call))
        reducer = te.comm_reducer(
            lambda a, b: _nan_or(pick, a, b), lambda t: tirx.const(start, t), name=name
        )

        def reduce(x: te.Tensor) -> te.Tensor:
            return _reduce(x, reducer, *_reduction(call))

        return bb.call_te(reduce, call.args[0], primfunc_name_hint=name)

    return lower


def _reduction(call: relax.Call) -> tuple[list[int] | None, bool]:
    axes = call.attrs.axis
    return (None if axes is None else [int(a) for a in axes]), bool(call.attrs.keepdims)


def _reduce(x: te.Tensor, reducer: object, axes: list[int] | None, keepdims: bool) -> te.Tensor:
    rank = len(x.shape)
    reduced = sorted(range(rank) if axes is None else {axis % rank for axis in axes})
    loops = {axis: te.reduce_axis((0, x.shape[axis]), name=f"k{axis}") for axis in reduced}
    kept = [axis for axis in range(rank) if axis not in loops]
    shape = [
        1 if axis in loops else x.shape[axis] for axis in range(rank) if keepdims or axis in kept
    ]

    def value(*index: tirx.Var) -> tirx.Expr:
        positions = list(index) if not keepdims else [index[axis] for axis in kept]
        where = iter(positions)
        at = [loops[axis] if axis in loops else next(where) for axis in range(rank)]
        return reducer(x(*at), axis=[loops[axis] for axis in reduced])

    return te.compute(shape, value, name="reduce")


# Terms. Up to the first, sums are TVM's; above the second, they have partial sums of at most so
# many numbers, and of no fewer than so many where the length allows it.
_SHORT_SUM, _LONG_SUM, _PART, _SHORTEST_PART = 64, 512, 256, 16
# Sums that numbers side by side are added to: several vectors of any target.
_AT_ONCE = (32, 64, 128, 256)
# Too few bits to add in.
_NARROW = ("float16", "bfloat16")


def _sum(name: str, mean: bool) -> Callable:
    def lower(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x, (axes, keepdims) = call.args[0], _reduction(call)
        sizes, dtype = list(x.ty.shape), str(x.ty.dtype)
        axes = sorted(range(len(sizes)) if axes is None else {axis % len(sizes) for axis in axes})
        known = all(isinstance(sizes[axis], tirx.IntImm) for axis in axes)
        count = math.prod(int(sizes[axis]) for axis in axes) if known else 0
        narrow = dtype in _NARROW

        def in_parts(x: te.Tensor) -> te.Tensor:
            shape = list(x.shape)
            terms = math.prod((shape[axis] for axis in axes), start=tirx.const(1, "int64"))
            # The last one at the end: until then its numbers are added to sums side by side.
            for axis in axes:
                x = _sum_of_parts(x, axis)
            if not keepdims:
                kept = [size for axis, size in enumerate(shape) if axis not in axes]
                x = topi.reshape(x, kept)
            if mean:
                x = topi.divide(x, terms.astype(x.dtype))
            return topi.cast(x, dtype) if narrow else x

        def in_double(x: te.Tensor) -> te.Tensor:
            terms = math.prod((x.shape[axis] for axis in axes), start=tirx.const(1, "int64"))
            y = _reduce(x, _sum_in_double, axes, keepdims)
            return topi.cast(topi.divide(y, terms.astype("float64")) if mean else y, dtype)

        if dtype == "float32" and (not known or _SHORT_SUM < count <= _LONG_SUM):
            return bb.call_te(in_double, x, primfunc_name_hint=name)
        if not narrow and (count <= _LONG_SUM or not dtype.startswith("float")):
            return call.op.get_attr("FLegalize")(bb, call)
        return bb.call_te(in_parts, x, primfunc_name_hint=name)

    return lower


def _sum_in_double(value: tirx.Expr, axis: list[tirx.IterVar]) -> tirx.Expr:
    return te.sum(value.astype("float64"), axis=axis)


def _softmax(name: str, logarithm: bool) -> Callable:
    def lower(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        x = call.args[0]
        axis = int(call.attrs.axis) % x.ty.ndim
        size = x.ty.shape[axis]
        short = isinstance(size, tirx.IntImm) and int(size) <= _SHORT_SUM
        if short or str(x.ty.dtype) != "float32":
            return call.op.get_attr("FLegalize")(bb, call)

        def softmax(x: te.Tensor) -> te.Tensor:
            most = topi.max(x, axis, keepdims=True)

            def above(value: tirx.Expr, at: tuple[tirx.Var, ...]) -> tirx.Expr:
                return value - most(*at[:axis], 0, *at[axis + 1 :])

            powers = te.compute(x.shape, lambda *at: tirx.exp(above(x(*at), at)), name="powers")
            total = topi.cast(_reduce(powers, _sum_in_double, [axis], True), "float32")
            if not logarithm:
                return topi.divide(powers, total)
            logs = topi.log(total)
            return te.compute(
                x.shape,
                lambda *at: above(x(*at), at) - logs(*at[:axis], 0, *at[axis + 1 :]),
                name="log_softmax",
            )

        return bb.call_te(softmax, x, primfunc_name_hint=name)

    return lower


def _variance(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """The mean of the squared distances to the mean, both sums as those of `_sum`."""
    axes, keepdims = _reduction(call)
    mean = bb.emit(relax.op.mean(call.args[0], axes, keepdims=True))
    off = bb.emit(relax.op.subtract(call.args[0], mean))
    return relax.op.mean(bb.emit(relax.op.multiply(off, off)), axes, keepdims=keepdims)


def _sum_of_parts(x: te.Tensor, axis: int) -> te.Tensor:
    """The sum along `axis`, which stays with size 1; of narrow numbers, in float32.

    Parts are stretches of it; along the last axis, where they can, every so many-th number, so that
    numbers that lie side by side are added to as many sums at once.
    """
    size = int(x.shape[axis]) if isinstance(x.shape[axis], tirx.IntImm) else x.shape[axis]
    wide = "float32" if x.dtype in _NARROW else x.dtype
    length = parts = 1
    ways = _sums_at_once(size) if axis == len(x.shape) - 1 else 0
    if isinstance(size, tirx.Expr) or size <= _PART:
        length = size
    elif ways:
        length, parts = size // ways, ways
    else:
        # Parts of one length need no comparison at every step.
        length = max(n for n in range(1, _PART + 1) if size % n == 0)
        length = length if length >= _SHORTEST_PART else _PART
        parts = -(-size // length)
    j = te.reduce_axis((0, length), name="j")

    def part(*index: tirx.Var) -> tirx.Expr:
        place = j * ways + index[axis] if parts == ways else index[axis] * length + j
        value = x(*index[:axis], place, *index[axis + 1 :]).astype(wide)
        if parts > 1 and size % length:
            value = tirx.if_then_else(place < size, value, tirx.const(0, wide))
        return te.sum(value, axis=j)

    shape = [parts if n == axis else own for n, own in enumerate(x.shape)]
    summed = te.compute(shape, part, name="part")
    return summed if parts == 1 else _sum_of_parts(summed, axis)


def _sums_at_once(size: int | tirx.Expr) -> int:
    """Into how many interleaved parts of no more than _PART numbers a row falls; 0 for none."""
    if isinstance(size, tirx.Expr):
        return 0
    return next((n for n in _AT_ONCE if size % n == 0 and size // n <= _PART), 0)


LOWERINGS = {
    "relax.nn.relu": _relu,
    "relax.clip": _clip,
    "relax.maximum": _pairwise("maximum", tirx.max),
    "relax.minimum": _pairwise("minimum", tirx.min),
    "relax.max": _extreme("max", tirx.max, float("-inf")),
    "relax.sum": _sum("sum", mean=False),
    "relax.mean": _sum("mean", mean=True),
    "relax.variance": _variance,
    "relax.nn.softmax": _softmax("softmax", logarithm=False),
    "relax.nn.log_softmax": _softmax("log_softmax", logarithm=True),
    "relax.min": _extreme("min", tirx.min, float("inf")),
    "relax.image.resize2d": lower_resize,
}


def legalize() -> tvm.transform.Pass:
    """The pass that turns every graph operator into a call of a TIR function."""
    sorts_and_scans = relax.backend.DispatchSortScan()
    return tvm.transform.Sequential([sorts_and_scans, relax.transform.LegalizeOps(LOWERINGS)])
