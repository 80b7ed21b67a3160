"""Fuse the convolutions whose results a concat joins along the channels, and the concat.

Before   y = concat(relu(conv(a, w1) + b1), relu(conv(b, w2) + b2), z)        (Inception)
After    y = conv_concat(a, w1, b1, b, w2, b2, z)

What is joined may be anything; two of the parts at least are convolutions, each with bias and
activation. Declines along another axis than the channels, with fewer than two such parts (one
with a second reader is none), where one part reads another, where spatial sizes are open, and where
`conv_block` declines a part.
"""

from __future__ import annotations

from tilewright.ops import ConcatSpec
from tilewright.passes import conv_block
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Either, Fields, Graph, Match, Op, Pattern
from tilewright.passes.shapes import GIVE_SIZES, OPEN, is_open, shape_of

MAX_PARTS = 6


def pattern() -> Pattern:
    """A concat of two to six parts."""
    return Op("relax.concat", Either(*map(_parts, range(2, MAX_PARTS + 1))), name="concat")


def _parts(count: int) -> Pattern:
    return Fields(
        *(
            Either(conv_block.plain_of(Any(f"{n}_x"), f"{n}_"), Any(f"{n}_value"))
            for n in range(count)
        )
    )


def accept(match: Match, graph: Graph) -> ConcatSpec | Decline:
    """A ConcatSpec with a ConvSpec for each convolution, and the shape of any other part."""
    _, concat = graph.bound(match["concat"])
    if int(concat.attrs.axis) % concat.ty.ndim != 1:
        return Decline(f"the concat is along axis {concat.attrs.axis}", at=match["concat"])
    parts = []
    for n in range(MAX_PARTS):
        if (value := match.get(f"{n}_value")) is not None:
            parts.append(shape_of(value))
        elif match.get(f"{n}_conv") is not None:
            parts.append(conv_block.accept(conv_block.unprefixed(match, f"{n}_"), graph))
    for part in parts:
        if isinstance(part, Decline):
            return part
        if part is None:
            return Decline("a shape is not known", at=match["concat"], mend="fix it with --shape")
    if any(is_open(part[2:] if isinstance(part, tuple) else part.x[2:]) for part in parts):
        return Decline(OPEN, at=match["concat"], mend=GIVE_SIZES)
    if sum(not isinstance(part, tuple) for part in parts) < 2:
        return Decline("fewer than two parts are convolutions", at=match["concat"])
    joined = graph.bound(concat.args[0])[1].fields
    made = [joined[n] for n, part in enumerate(parts) if not isinstance(part, tuple)]
    for n in range(len(parts)):
        x = match.get(f"{n}_x")
        if x is not None and any(x.same_as(y) for y in made):
            # It is made inside the group, whose convolutions are given what they read.
            return Decline("one part reads another", at=x)
    return ConcatSpec(dtype=str(concat.ty.dtype), parts=tuple(parts))


# A concat and two convolutions: a concat of anything else is not worth a remark.
CONV_CONCAT = Fusion("conv_concat", pattern(), accept, at_least=3)
