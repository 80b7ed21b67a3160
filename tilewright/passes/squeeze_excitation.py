"""Fuse squeeze-and-excitation, its final multiplication included, with the projection after it.

Before   y = x * sigmoid(conv1x1(act(conv1x1(mean(x)))));   z = conv(y, w3) + b3 [+ r]
After    z = squeeze_excitation(x, w1, b1, w2, b2, w3, b3[, r])

Both layers may be 1x1 convolutions or matrix products with reshapes around them. Declines when
the mean is not over all positions of each channel, or a layer is no 1x1 convolution. A scaled
value that several read keeps the projection outside; so does whatever `conv_block` declines.
"""

from __future__ import annotations

from tilewright.ops import SqueezeExcitationSpec
from tilewright.passes import conv_block
from tilewright.passes.activations import activation, step_of
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Constant, Either, Graph, Match, Op, Pattern, maybe
from tilewright.passes.shapes import shape_of

_LAYERS = ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d", "relax.matmul")
_RESHAPES = ("relax.reshape", "relax.expand_dims", "relax.squeeze")
_GATES = ("sigmoid", "hard_sigmoid", "clip")


def _layer(x: Pattern, weights: str, bias: str) -> Pattern:
    shaped = maybe(lambda y: Op(_RESHAPES, y), x)
    return maybe(
        lambda y: Op("relax.add", y, Constant(bias)), Op(_LAYERS, shaped, Constant(weights))
    )


def pattern() -> Pattern:
    """X times the gate that its mean opens."""
    x = Any("x")
    squeezed = activation(_layer(Op("relax.mean", x, name="mean"), "w1", "b1"), "squeeze")
    gate = activation(_layer(squeezed, "w2", "b2"), "gate")
    scaled = Op("relax.multiply", x, maybe(lambda g: Op(_RESHAPES, g), gate))
    return Either(conv_block.block_of(scaled), scaled)


def accept(match: Match, graph: Graph) -> SqueezeExcitationSpec | Decline:
    """A SqueezeExcitationSpec; channels are the second axis."""
    projection = conv_block.accept(match, graph) if match.get("conv") is not None else None
    if isinstance(projection, Decline):
        return projection
    x = shape_of(match["x"])
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
    return SqueezeExcitationSpec(
        dtype=str(match["x"].ty.dtype),
        x=x,
        squeezed=w1[0] if len(w1) > 2 else w1[-1],
        biases=(match.get("b1") is not None, match.get("b2") is not None),
        activation=step_of(match, graph, "squeeze"),
        gate=step_of(match, graph, "gate"),
        projection=projection,
    )


SQUEEZE_EXCITATION = Fusion("squeeze_excitation", pattern(), accept)
