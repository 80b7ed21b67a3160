"""Fuse squeeze-and-excitation, its final multiplication included.

Before   y = x * sigmoid(conv1x1(act(conv1x1(mean(x)))))
After    y = squeeze_excitation(x, w1, b1, w2, b2)

Both layers may be 1x1 convolutions or matrix products with reshapes around them. Declines when
the mean is not over all positions of each channel.
"""

from __future__ import annotations

from tilewright.ops import SqueezeExcitationSpec
from tilewright.passes.activations import activation
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Constant, Graph, Match, Op, Pattern, maybe
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
    squeezed = activation(_layer(Op("relax.mean", x, name="mean"), "w1", "b1"), "activation")
    gate = activation(_layer(squeezed, "w2", "b2"), "gate")
    return Op("relax.multiply", x, maybe(lambda g: Op(_RESHAPES, g), gate))


def accept(match: Match, graph: Graph) -> SqueezeExcitationSpec | Decline:
    """A SqueezeExcitationSpec; channels are the second axis."""
    x = shape_of(match["x"])
    if x is None or len(x) < 3:
        return Decline("the input's shape is not known", at=match["mean"], mend="use --shape")
    _, mean = graph.bound(match["mean"])
    axes = sorted(int(axis) % len(x) for axis in mean.attrs.axis or range(len(x)))
    if axes != list(range(2, len(x))):
        return Decline(f"the mean is over axes {axes}, want all positions", at=match["mean"])
    if match["gate"] not in _GATES:
        return Decline(f"the gate is {match['gate']}, want one of {_GATES}", at=match["mean"])
    w1 = shape_of(match["w1"])
    return SqueezeExcitationSpec(
        dtype=str(match["x"].ty.dtype),
        x=x,
        squeezed=w1[0] if len(w1) > 2 else w1[-1],
        activation=match["activation"],
        gate=match["gate"],
    )


SQUEEZE_EXCITATION = Fusion("squeeze_excitation", pattern(), accept)
