"""Fuse layer, RMS and group normalisation, native or written out.

Before   y = w * (x / sqrt(mean(x^2) + eps))         y = layer_norm(a + b, w, bias)
After    y = norm(x, w)                              y = norm(a, b, w, bias)

The sum before a normalisation is taken in when nothing else reads it. Declines when the mean
is not over the last axes, or epsilon is not one number.
"""

from __future__ import annotations

from tilewright.ops import NormSpec
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
from tilewright.passes.relax_constants import array_of
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


def pattern() -> Pattern:
    """A native normalisation, or RMS or layer normalisation written out, with its weights."""
    x = Any("x")
    native = Either(*[Tagged(Op(op, x, name="norm"), "native", op) for op in _NATIVE])
    centred = Op("relax.subtract", x, Op("relax.mean", x))
    layer = Tagged(_over_deviation(centred, _mean_of_square(centred)), "method", "layer")
    rms = Tagged(_over_deviation(x, _mean_of_square(x)), "method", "rms")
    scaled = maybe(lambda y: Op("relax.multiply", y, Constant("weight")), Either(layer, rms))
    written = maybe(lambda y: Op("relax.add", y, Constant("bias")), scaled)
    return Either(native, written)


def accept(match: Match, graph: Graph) -> NormSpec | Decline:
    """A NormSpec with the axes and epsilon of the operator, or of the written-out mean."""
    x = shape_of(match["x"])
    if x is None:
        return Decline("the input's shape is not known", at=match["x"], mend="use --shape")
    native = match.get("native")
    _, found = graph.bound(match["norm"] if native else match["mean"])
    axes = found.attrs.axes if native else found.attrs.axis
    axes = tuple(sorted(int(axis) % len(x) for axis in axes))
    if axes != tuple(range(len(x) - len(axes), len(x))) and native in (None, "relax.nn.layer_norm"):
        return Decline(f"the mean is over axes {axes}, want the last ones", at=match["x"])
    if native:
        epsilon = float(found.attrs.epsilon)
    else:
        values = array_of(match["epsilon"])
        if values.size != 1:
            return Decline("epsilon is not one number", at=match["mean"])
        epsilon = float(values.reshape(-1)[0])
    return NormSpec(
        dtype=str(match["x"].ty.dtype),
        method=_NATIVE[native] if native else match["method"],
        x=x,
        axes=axes,
        epsilon=epsilon,
    )


NORM = Fusion("norm", pattern(), accept)
