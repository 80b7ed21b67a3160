"""Fuse squeeze-and-excitation, its final multiplication included, with what makes and reads it.

Before   x = act(depthwise([act(conv1x1(v, w4) + b4)], w5) + b5)
         y = x * sigmoid(conv1x1(act(conv1x1(mean(x)))));   z = conv(y, w3) + b3 [+ r]
After    z = squeeze_excitation(v, w4, b4, w5, b5, w1, b1, w2, b2, w3, b3[, r])

Both layers may be 1x1 convolutions or matrix products with reshapes around them. Declines when
the mean is not over all positions of each channel, or a layer is no 1x1 convolution. A scaled value
that several read keeps the projection outside; so does whatever `conv_block` declines. What makes x
is inside where it is a depthwise convolution, the pointwise one before it too. Where it is open how
many positions there are, the convolutions stay outside.
"""

from __future__ import annotations

from tilewright.ops import ConvSpec, SqueezeExcitationSpec
from tilewright.passes import conv_block
from tilewright.passes.activations import activation, step_of
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Both, Constant, Either, Graph, Match, Op, Pattern, maybe
from tilewright.passes.shapes import GIVE_SIZES, OPEN, is_open, shape_of

_LAYERS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d", "relax.matmul")
_RESHAPES = ("relax.reshape", "relax.expand_dims", "relax.squeeze")
_GATES = ("sigmoid", "hard_sigmoid", "clip")
# What stands before the names of the convolutions that make the scaled value, in their order.
_BEFORE = ("expansion_", "depthwise_")


def _layer(x: Pattern, weights: str, bias: str) -> Pattern:
    shaped = maybe(lambda y: Op(_RESHAPES, y), x)
    return maybe(
        lambda y: Op("relax.add", y, Constant(bias)), Op(_LAYERS, shaped, Constant(weights))
    )


def pattern() -> Pattern:
    """What is made, times the gate that its mean opens."""
    made = Any("made")
    squeezed = activation(_layer(Op("relax.mean", made, name="mean"), "w1", "b1"), "squeeze")
    gate = maybe(lambda g: Op(_RESHAPES, g), activation(_layer(squeezed, "w2", "b2"), "gate"))
    expansion, depthwise = _BEFORE
    x = Any("x")
    expanded = maybe(lambda v: conv_block.plain_of(v, expansion), x)
    before = Either(conv_block.plain_of(expanded, depthwise), x)
    scaled = Op("relax.multiply", gate, Both(made, before))
    return Either(conv_block.block_of(scaled), scaled)


def accept(match: Match, graph: Graph) -> SqueezeExcitationSpec | Decline:
    """A SqueezeExcitationSpec; channels are the second axis."""
    projection = conv_block.accept(match, graph) if match.get("conv") is not None else None
    if isinstance(projection, Decline):
        return projection
    x = shape_of(match["made"])
    if x is None or len(x) < 3:
        return Decline("the input's shape is not known", at=match["mean"], mend="use --shape")
    _, mean = graph.bound(match["mean"])
    axes = sorted(int(axis) % len(x) for axis in mean.attrs.axis or range(len(x)))
    if axes != list(range(2, len(x))):
        return Decline(f"the mean is over axes {axes}, want all positions", at=match["mean"])
    if match["gate"] not in _GATES:
        return Decline(f"the gate is {match['gate']}, want one of {_GATES}", at=match["mean"])
    w1, w2 = shape_of(match["w1"]), shape_of(match["w2"])
    if any(size != 1 for w in (w1, w2) for size in w[2:]):
        return Decline(f"the layers have kernels {w1[2:]} and {w2[2:]}, want 1x1", at=match["mean"])
    before = _before(match, graph)
    if isinstance(before, Decline):
        return before
    if is_open(x[2:]) and (projection or before):
        return Decline(OPEN, at=match["mean"], mend=GIVE_SIZES, near=False)
    return SqueezeExcitationSpec(
        dtype=str(match["made"].ty.dtype),
        x=x,
        squeezed=w1[0] if len(w1) > 2 else w1[-1],
        biases=(match.get("b1") is not None, match.get("b2") is not None),
        activation=step_of(match, graph, "squeeze"),
        gate=step_of(match, graph, "gate"),
        projection=projection,
        before=before,
    )


def _before(match: Match, graph: Graph) -> tuple[ConvSpec, ...] | Decline:
    """The convolutions that make the scaled value: [pointwise,] depthwise."""
    found = []
    for prefix in _BEFORE:
        if match.get(f"{prefix}conv") is None:
            continue
        spec = conv_block.accept(conv_block.unprefixed(match, prefix), graph)
        if isinstance(spec, Decline):
            return spec
        fits = spec.depthwise if prefix == _BEFORE[-1] else spec.pointwise
        if spec.transposed or not fits:
            # Another convolution before a squeeze-and-excitation is none of this block.
            reason = f"the convolution before it is not {prefix.rstrip('_')}"
            return Decline(reason, at=match["mean"], near=False)
        found.append(spec)
    return tuple(found)


SQUEEZE_EXCITATION = Fusion("squeeze_excitation", pattern(), accept)
