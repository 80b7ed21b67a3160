"""Fuse scaled dot product attention, from the projected q, k, v to the merged heads.

Before   s = softmax(q @ transpose(k) * scale + mask);  y = merge(where(isnan(s), 0, s) @ v)
After    y = attention(q, k, v, mask)

The scale may be a multiplication or a division, on q, on k, on both, or on the scores; heads
may be split off by reshape and transpose, or cut out of one projection; key and value heads may
be shared (grouped query). A table of biases may be added before the mask. Declines when the
softmax is not over the keys.
"""

from __future__ import annotations

from tilewright.ops import AttentionSpec
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Constant, Either, Graph, Match, Op, Pattern, maybe
from tilewright.passes.shapes import shape_of

_RESHAPE = ("relax.reshape", "relax.expand_dims", "relax.squeeze")


def _scaled(x: Pattern) -> Pattern:
    return maybe(lambda v: Op(("relax.multiply", "relax.divide"), v, Constant()), x)


def _heads(x: Pattern) -> Pattern:
    """Heads of a projection: reshape and transpose, or a slice of a joint projection."""
    joint = Op("relax.permute_dims", Op("relax.reshape", x))
    cut = Op("relax.squeeze", Op("relax.strided_slice", joint))
    split = Op("relax.permute_dims", Op("relax.reshape", x))
    return Either(cut, split, Op("relax.permute_dims", x), x)


def _shared(x: Pattern) -> Pattern:
    """One key or value head repeated for a group of query heads."""
    return maybe(lambda _: Op("relax.reshape", _repeated(x)), x)


def _repeated(x: Pattern, name: str | None = None) -> Pattern:
    return Op("relax.broadcast_to", Op("relax.expand_dims", x), name=name)


def _transposed(x: Pattern) -> Pattern:
    """K with its last two axes exchanged, also by way of a flat batch of heads."""
    flat = Op("relax.permute_dims", Op("relax.reshape", x))
    shared = Op("relax.reshape", _repeated(x, "repeated_keys"))
    grouped = Op("relax.permute_dims", shared)
    whole = (Op("relax.reshape", grouped), Op("relax.reshape", flat))
    return Either(*whole, grouped, flat, Op("relax.permute_dims", x))


def pattern() -> Pattern:
    """Projected q, k and v to merged heads."""
    q = _scaled(_heads(_scaled(Any("q"))))
    k = _scaled(Either(_transposed(_heads(_scaled(Any("k")))), _heads(_scaled(Any("k")))))
    v = _shared(_heads(Any("v")))
    scores = Op("relax.matmul", q, k, name="scores")
    scaled = _scaled(scores)
    # Swin adds a table of biases and, with the windows as an axis of their own, a mask.
    biased = Op("relax.add", scaled, Any("bias"))
    windows = Op("relax.add", Op("relax.reshape", biased), Any("mask"))
    added = Op("relax.add", Either(biased, scaled), Any("mask"))
    chosen = Op("relax.where", Any("mask"), scaled, Constant())
    hidden = Op("relax.where", Any("mask"), Constant(), scaled)
    masked = Either(Op("relax.reshape", windows), added, chosen, hidden, scaled)
    softmax = Op("relax.nn.softmax", masked, name="softmax")
    guarded = Op(
        "relax.where", Op("relax.isnan", softmax), Constant(value=0), softmax, name="guard"
    )
    weighted = Op("relax.matmul", Either(guarded, softmax), v, name="weighted")
    merged = Op("relax.reshape", Op("relax.permute_dims", weighted))
    return Either(merged, Op("relax.permute_dims", weighted), weighted)


def accept(match: Match, graph: Graph) -> AttentionSpec | Decline:
    """An AttentionSpec from the shapes of the scores and of the weighted values."""
    scores, weighted = shape_of(match["scores"]), shape_of(match["weighted"])
    if scores is None or weighted is None or len(scores) not in (3, 4):
        return Decline("the scores' shape is not known", at=match["scores"], mend="use --shape")
    _, softmax = graph.bound(match["softmax"])
    if int(softmax.attrs.axis) % len(scores) != len(scores) - 1:
        return Decline(
            f"the softmax is over axis {softmax.attrs.axis}, want the last", at=match["softmax"]
        )
    _, product = graph.bound(match["scores"])
    head_size = shape_of(product.args[0])[-1]
    batch, heads, queries, keys = scores if len(scores) == 4 else (1, *scores)
    shared = match.get("repeated_keys")
    kv_heads = heads if shared is None else shape_of(shared)[1]
    return AttentionSpec(
        dtype=str(match["scores"].ty.dtype),
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        queries=queries,
        keys=keys,
        head_size=head_size,
        value_size=weighted[-1],
        mask=match.get("mask") is not None,
        guarded=match.get("guard") is not None,
    )


ATTENTION = Fusion("attention", pattern(), accept)
