"""Fuse a convolution with what follows it: bias, residual, activation, max pool.

Before   y = max_pool(relu(conv(x, w) + b + r))
After    y = conv_block(x, w, b, r)

The residual may come before or after the activation. Declines when the weights are computed
at run time, when the bias is not one value per output channel, when the residual has
another shape (a broadcast is no residual), or a pool when spatial sizes are open.
"""

from __future__ import annotations

from tvm import relax

from tilewright.ops import ConvSpec, Step
from tilewright.passes.activations import activation
from tilewright.passes.epilogue import epilogue, residual_problem, steps_of
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Constant, Graph, Match, Op, Pattern, maybe
from tilewright.passes.relax_constants import is_constant
from tilewright.passes.shapes import GIVE_SIZES, OPEN, is_open, is_per_channel, shape_of

CONVOLUTIONS = tuple(
    f"relax.nn.conv{rank}d{kind}" for rank in (1, 2, 3) for kind in ("", "_transpose")
)


def block_of(x: Pattern) -> Pattern:
    """Conv of `x` with its epilogue [and a max pool]."""
    stored = epilogue(Op(CONVOLUTIONS, x, Any("w"), name="conv"))
    return maybe(lambda y: Op("relax.nn.max_pool2d", y, name="max_pool"), stored)


def plain_of(x: Pattern, prefix: str) -> Pattern:
    """Conv of `x` [+ bias] [activation], its names prefixed: one convolution of several."""
    product = Op(CONVOLUTIONS, x, Any(f"{prefix}w"), name=f"{prefix}conv")
    biased = maybe(lambda y: Op("relax.add", y, Constant(f"{prefix}bias")), product)
    return maybe(lambda y: activation(y, f"{prefix}activation"), biased)


def unprefixed(match: Match, prefix: str) -> Match:
    """What `match` found of one `plain_of`, under the names that `accept` reads."""
    values = match.values.items()
    return Match(
        {name.removeprefix(prefix): v for name, v in values if name.startswith(prefix)},
        match.covered,
    )


def accept(match: Match, graph: Graph) -> ConvSpec | Decline:
    """A ConvSpec with everything in the store as its epilogue."""
    _, conv = graph.bound(match["conv"])
    x, w, y = shape_of(conv.args[0]), shape_of(match["w"]), shape_of(match["conv"])
    if x is None or w is None or y is None:
        return Decline("a shape is not known", at=match["conv"], mend="fix it with --shape")
    _, weights = graph.bound(match["w"])
    if not is_constant(weights):
        return Decline("the weights are computed at run time", at=match["conv"])
    bias = match.get("bias")
    if bias is not None and not is_per_channel(bias, 1, y[1], len(y)):
        return Decline(
            f"bias has shape {shape_of(bias)}, want one value per channel of {y}", at=match["conv"]
        )
    if problem := residual_problem(match, y):
        return Decline(problem, at=match["conv"])
    if match.get("max_pool") is not None and is_open(x[2:]):
        return Decline("it pools, and " + OPEN, at=match["conv"], mend=GIVE_SIZES, near=False)
    transposed = conv.op.name.endswith("_transpose")
    return ConvSpec(
        dtype=str(match["conv"].ty.dtype),
        x=x,
        w=w,
        strides=_ints(conv.attrs.strides),
        padding=_ints(conv.attrs.padding),
        dilation=_ints(conv.attrs.dilation),
        groups=int(conv.attrs.groups),
        transposed=transposed,
        output_padding=_ints(conv.attrs.output_padding) if transposed else (),
        epilogue=(*steps_of(match, graph), *_max_pool(match, graph)),
    )


def _max_pool(match: Match, graph: Graph) -> tuple[Step, ...]:
    if match.get("max_pool") is None:
        return ()
    attrs = graph.bound(match["max_pool"])[1].attrs
    numbers = (attrs.pool_size, attrs.strides, attrs.padding, attrs.dilation)
    return (Step("max_pool", (*sum(map(_ints, numbers), ()), int(attrs.ceil_mode))),)


def _ints(values: relax.Expr) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


CONV_BLOCK = Fusion("conv_block", block_of(Any("x")), accept)
