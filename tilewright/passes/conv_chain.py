"""Fuse a pointwise convolution with the depthwise block that alone reads its result.

Before   y = act(depthwise(act(conv1x1(x, w1) + b1), w2) + b2)       (MobileNet, EfficientNet)
After    y = conv_chain(x, w1, b1, w2, b2)

Each batch normalisation is in its weights by then. The depthwise part is all that `conv_block`
takes. Declines when the first convolution is not 1x1, when the second is not depthwise, where their
spatial sizes are open, and where `conv_block` declines either; a residual between the two ends the
match.
"""

from __future__ import annotations

from tilewright.ops import ConvChainSpec
from tilewright.passes import conv_block
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Graph, Match, Pattern
from tilewright.passes.shapes import GIVE_SIZES, OPEN, is_open

_FIRST = "first_"


def pattern() -> Pattern:
    """A block that reads conv [+ bias] [activation], with `conv_block`'s names, prefixed."""
    return conv_block.block_of(conv_block.plain_of(Any("x"), _FIRST))


def accept(match: Match, graph: Graph) -> ConvChainSpec | Decline:
    """A ConvChainSpec of two ConvSpecs."""
    first = conv_block.accept(conv_block.unprefixed(match, _FIRST), graph)
    second = conv_block.accept(match, graph)
    for spec in (first, second):
        if isinstance(spec, Decline):
            return spec
    if not first.pointwise:
        return Decline(
            "the first convolution is not pointwise", at=match["first_conv"], near=second.depthwise
        )
    if not second.depthwise or second.transposed:
        # Two convolutions in a row are no almost-chain.
        return Decline("the second convolution is not depthwise", at=match["conv"], near=False)
    if is_open(first.x[2:]):
        return Decline(OPEN, at=match["conv"], mend=GIVE_SIZES)
    return ConvChainSpec(dtype=first.dtype, first=first, second=second)


CONV_CHAIN = Fusion("conv_chain", pattern(), accept)
