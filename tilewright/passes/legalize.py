"""Graph operators to TIR kernels, with our own lowering where TVM's answers differ from ONNX's.

- `max(0, x)` with the constant first keeps NaN, as ONNX Runtime does; TVM writes `max(x, 0)`.
- The larger or smaller of two values is NaN when either is; TVM drops the first one's.
- A maximum over -inf alone is -inf; TVM's starts from the smallest finite number.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import relax, te, tirx, topi


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


LOWERINGS = {
    "relax.nn.relu": _relu,
    "relax.clip": _clip,
    "relax.maximum": _pairwise("maximum", tirx.max),
    "relax.minimum": _pairwise("minimum", tirx.min),
    "relax.max": _extreme("max", tirx.max, float("-inf")),
    "relax.min": _extreme("min", tirx.min, float("inf")),
}


def legalize() -> tvm.transform.Pass:
    """The pass that turns every graph operator into a call of a TIR function."""
    sorts_and_scans = relax.backend.DispatchSortScan()
    return tvm.transform.Sequential([sorts_and_scans, relax.transform.LegalizeOps(LOWERINGS)])
