"""Graph operators on tensors whose channels are last.

Before   y = max_pool2d(x)                  x, y: [n, c, h, w]
After    y' = max_pool2d(x', NHWC)          x', y': [n, h, w, c]

Each entry rebuilds one operator for operands in that order, or gives None where it cannot.
Convolutions and what is fused with them like their channels last; what stands between them must
not bring them back.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax

from tilewright.passes.relax_constants import array_of, constant, is_constant

Last = Callable[[relax.Expr], relax.Expr]

ELEMENTWISE = frozenset(
    f"relax.{name}"
    for name in (
        *("abs", "ceil", "clip", "cos", "erf", "exp", "floor", "log", "negative", "round", "rsqrt"),
        *("sigmoid", "sign", "sin", "sqrt", "square", "tanh", "isnan", "logical_not"),
        *("nn.relu", "nn.gelu", "nn.gelu_tanh", "nn.silu", "nn.leakyrelu", "nn.softplus"),
    )
)
BROADCASTING = frozenset(
    f"relax.{name}"
    for name in (
        *("add", "subtract", "multiply", "divide", "maximum", "minimum", "power"),
        *("equal", "greater", "greater_equal", "less", "less_equal", "not_equal", "where"),
    )
)
_REDUCTIONS = {
    "relax.mean": relax.op.mean,
    "relax.sum": relax.op.sum,
    "relax.max": relax.op.max,
    "relax.min": relax.op.min,
}
_POOLS = ("relax.nn.max_pool2d", "relax.nn.avg_pool2d", "relax.nn.adaptive_avg_pool2d")


def to_last(rank: int) -> list[int]:
    """Axes that move the channels, the second axis, to the end."""
    return [0, *range(2, rank), 1]


def to_second(rank: int) -> list[int]:
    """Axes that move the last axis to where channels stand otherwise."""
    return [0, rank - 1, *range(1, rank - 1)]


def place_of(axis: int, rank: int) -> int:
    """Where axis `axis` is when the channels are last."""
    return to_last(rank).index(axis % rank)


def rewrite(call: relax.Call, last: Last) -> relax.Expr | None:
    """`call` with channels last in operands and result; None where there is no such thing.

    `last(operand)` is the operand in that order.
    """
    name = getattr(call.op, "name", "")
    if name in _REDUCTIONS:
        return _reduce(call, last)
    rank = getattr(call.ty, "ndim", -1)
    if rank < 3:
        return None
    if name in ELEMENTWISE:
        first = last(call.args[0])
        return relax.Call(call.op, [first, *call.args[1:]], call.attrs, call.ty_args)
    if name in BROADCASTING:
        operands = [_broadcast(operand, rank, last) for operand in call.args]
        if any(operand is None for operand in operands):
            return None
        return relax.Call(call.op, operands, call.attrs, call.ty_args)
    if name in _POOLS and rank == 4:
        return _pool(call, last)
    if name == "relax.concat":
        return _concat(call, rank, last)
    if name == "relax.image.resize2d":
        return _resize(call, last)
    return None


def _broadcast(operand: relax.Expr, rank: int, last: Last) -> relax.Expr | None:
    """An operand of an elementwise operator on tensors of `rank`."""
    if is_constant(operand):
        values = array_of(operand)
        if values.ndim == 0:
            return operand
        values = values.reshape((1,) * (rank - values.ndim) + values.shape)
        return constant(values.transpose(to_last(rank)))
    return last(operand) if getattr(operand.ty, "ndim", -1) == rank else None


def _pool(call: relax.Call, last: Last) -> relax.Expr | None:
    x, attrs = last(call.args[0]), call.attrs
    if str(attrs.layout) != "NCHW":
        return None
    if call.op.name.endswith("adaptive_avg_pool2d"):
        return relax.op.nn.adaptive_avg_pool2d(x, attrs.output_size, "NHWC", "NHWC")
    pool = getattr(relax.op.nn, call.op.name.rpartition(".")[2])
    return pool(
        x,
        attrs.pool_size,
        attrs.strides,
        attrs.padding,
        attrs.dilation,
        attrs.ceil_mode,
        attrs.count_include_pad,
        "NHWC",
        "NHWC",
    )


def _reduce(call: relax.Call, last: Last) -> relax.Expr | None:
    """Over any axes that stay, of size 1; over all spatial axes where they go."""
    rank, axes, keepdims = call.args[0].ty.ndim, call.attrs.axis, bool(call.attrs.keepdims)
    axes = [int(a) % rank for a in (axes if axes is not None else range(rank))]
    if rank < 3 or not (keepdims or sorted(axes) == list(range(2, rank))):
        return None
    reduce = _REDUCTIONS[call.op.name]
    return reduce(last(call.args[0]), [place_of(a, rank) for a in axes], keepdims=keepdims)


def _concat(call: relax.Call, rank: int, last: Last) -> relax.Expr | None:
    if not isinstance(call.args[0], relax.Tuple):
        return None
    fields = [last(field) for field in call.args[0].fields]
    return relax.op.concat(fields, place_of(int(call.attrs.axis), rank))


def _resize(call: relax.Call, last: Last) -> relax.Expr | None:
    x, a = last(call.args[0]), call.attrs
    if str(a.layout) != "NCHW":
        return None
    return relax.op.image.resize2d(
        x,
        call.args[1],
        roi=[float(value) for value in a.roi],
        layout="NHWC",
        method=a.method,
        coordinate_transformation_mode=a.coordinate_transformation_mode,
        rounding_method=a.rounding_method,
        cubic_alpha=a.cubic_alpha,
        cubic_exclude=a.cubic_exclude,
        extrapolation_value=a.extrapolation_value,
        out_dtype=a.out_dtype or None,
    )
