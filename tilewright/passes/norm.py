"""Fuse layer, RMS and group normalisation, native or written out.

Before   y = w * (x / sqrt(mean(x^2) + eps))         y = layer_norm(a + b, w, bias)
After    y = norm(x, w)                              y = norm(a, b, w, bias)

The sum of two computed values before a normalisation is taken in when nothing else reads it.
Declines when the mean is not over the last axes, epsilon is not one number, or the weights lie
along other axes than they should: those of the mean, or the channels of an instance norm.
"""

from __future__ import annotations

from dataclasses import replace

from tvm import relax

from tilewright.ops import NormSpec, Step
from tilewright.ops.spec import Shape
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import (
    Any,
    Constant,
    Either,
    Graph,
    Match,
    Op,
    Pattern,
    Tagged,
    maybe,
)
from tilewright.passes.relax_constants import array_of, is_constant, shortest
from tilewright.passes.shapes import shape_of

_NATIVE = {
    "relax.nn.layer_norm": "layer",
    "relax.nn.rms_norm": "rms",
    "relax.nn.group_norm": "group",
    "relax.nn.instance_norm": "instance",
}


def _mean_of_square(x: Pattern) -> Pattern:
    square = Either(Op("relax.power", x, Constant(value=2)), Op("relax.multiply", x, x))
    return Op("relax.mean", square, name="mean")


def _over_deviation(x: Pattern, square: Pattern) -> Pattern:
    """X / sqrt(square + eps) in its three forms."""
    deviation = Op("relax.sqrt", Op("relax.add", square, Constant("epsilon")))
    inverse = Either(
        Op("relax.divide", Constant(value=1), deviation),
        Op("relax.rsqrt", Op("relax.add", square, Constant("epsilon"))),
    )
    return Either(Op("relax.multiply", x, inverse), Op("relax.divide", x, deviation))


def native_pattern(op: str, x: Pattern) -> Pattern:
    """A normalisation that is one operator, with the weights it always has."""
    weights = ("gamma",) if op == "relax.nn.rms_norm" else ("gamma", "beta")
    return Op(op, x, *map(Any, weights), name="norm")


def _of(x: Pattern) -> Pattern:
    """A native normalisation, or one written out, with its weights."""
    native = Either(*[Tagged(native_pattern(op, x), "native", op) for op in _NATIVE])
    centred = Op("relax.subtract", x, Op("relax.mean", x, name="centre"))
    layer = Tagged(_over_deviation(centred, _mean_of_square(centred)), "method", "layer")
    variance = Op("relax.variance", x, name="mean")
    instance = Tagged(_over_deviation(centred, variance), "method", "instance")
    rms = Tagged(_over_deviation(x, _mean_of_square(x)), "method", "rms")
    normed = Either(layer, instance, rms, Tagged(native, "method", "native"))
    scaled = maybe(lambda y: Op("relax.multiply", y, Constant("weight")), normed)
    return maybe(lambda y: Op("relax.add", y, Constant("bias")), scaled)


def pattern() -> Pattern:
    """A normalisation of a sum, or of anything."""
    total = Op("relax.add", Any("left"), Any("right"), name="x")
    return Either(_of(total), _of(Any("x")))


def accept(match: Match, graph: Graph) -> NormSpec | Decline:
    """A NormSpec with the axes and epsilon of the operator, or of the written-out mean."""
    x = shape_of(match["x"])
    if x is None:
        return Decline("the input's shape is not known", at=match["x"], mend="use --shape")
    native = match.get("native")
    if match.get("left") is not None and not _is_skip(match, graph):
        return Decline("the sum before it is with a constant, or broadcasts", at=match["x"])
    axes = _axes(match["norm"] if native else match["mean"], len(x), graph)
    if match.get("centre") is not None and _axes(match["centre"], len(x), graph) != axes:
        return Decline("the two means are over different axes", at=match["mean"])
    if axes != tuple(range(len(x) - len(axes), len(x))) and native in (None, "relax.nn.layer_norm"):
        return Decline(f"the mean is over axes {axes}, want the last ones", at=match["x"])
    method = _NATIVE[native] if native else match["method"]
    for name in ("weight", "bias"):
        if (value := match.get(name)) is not None and not _lies_along(value, x, axes, method):
            return Decline(
                f"the {name} has shape {shape_of(value)}, and the mean is over axes {axes}",
                at=match["x"],
            )
    there = {name: match.get(name) is not None for name in ("weight", "bias")}
    skip = match.get("left") is not None
    if native:
        after = {"scale": there["weight"], "bias": there["bias"]}
        steps = tuple(Step(name) for name, on in after.items() if on)
        return replace(native_spec(match["norm"], graph), skip=skip, epilogue=steps)
    values = array_of(match["epsilon"])
    if values.size != 1:
        return Decline("epsilon is not one number", at=match["mean"])
    return NormSpec(
        dtype=str(match["x"].ty.dtype),
        method=method,
        x=x,
        axes=axes,
        epsilon=shortest(values.item()),
        skip=skip,
        **there,
    )


def native_spec(norm: relax.Expr, graph: Graph) -> NormSpec:
    """The NormSpec of one operator, bound to `norm`; its input's shape is known."""
    _, call = graph.bound(norm)
    x = shape_of(call.args[0])
    rms = call.op.name == "relax.nn.rms_norm"
    return NormSpec(
        dtype=str(call.ty.dtype),
        method=_NATIVE[call.op.name],
        x=x,
        axes=_axes(norm, len(x), graph),
        epsilon=shortest(call.attrs.epsilon),
        weight=rms or bool(call.attrs.scale),
        bias=not rms and bool(call.attrs.center),
        groups=int(getattr(call.attrs, "num_groups", 1)),
    )


def _axes(name: relax.Expr, rank: int, graph: Graph) -> tuple[int, ...]:
    """Axes of a native normalisation or of a mean, counted from the front; none means all."""
    _, call = graph.bound(name)
    axes = getattr(call.attrs, "axes", None) or getattr(call.attrs, "axis", None) or range(rank)
    return tuple(sorted(int(axis) % rank for axis in axes))


def _is_skip(match: Match, graph: Graph) -> bool:
    """Whether two computed values of the same shape are added."""
    parts = (match["left"], match["right"])
    computed = not any(is_constant(graph.bound(part)[1]) for part in parts)
    return computed and all(shape_of(part) == shape_of(match["x"]) for part in parts)


def _lies_along(value: relax.Expr, x: Shape, axes: tuple[int, ...], method: str) -> bool:
    """Whether a weight or bias varies only along the axes where the method has one."""
    shape = shape_of(value)
    shape = (1,) * (len(x) - len(shape)) + shape
    allowed = axes if method in ("layer", "rms") else (1,)
    return len(shape) == len(x) and all(
        size == 1 or (axis in allowed and size == x[axis]) for axis, size in enumerate(shape)
    )


NORM = Fusion("norm", pattern(), accept)
