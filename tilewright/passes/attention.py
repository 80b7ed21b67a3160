"""Fuse scaled dot product attention, from the projected q, k, v to the merged heads.

Before   s = softmax(q @ transpose(k) * scale + mask);  y = merge(where(isnan(s), 0, s) @ v)
After    y = attention(q, k, v, mask)

The scale may be a multiplication or a division, on q, on k, on both, or on the scores; heads
may be split off by reshape and transpose, or cut out of one projection; key and value heads may
be shared (grouped query). Scores may be capped (tanh), and a table of biases may be added before
the mask. Declines when the softmax is not over the keys, and when a factor or what masked scores
are replaced by is not one number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from tvm import relax

from tilewright.ops import AttentionSpec
from tilewright.ops.attention import MASKS, Operand
from tilewright.ops.spec import Dim
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import (
    Any,
    Constant,
    Either,
    Graph,
    Match,
    Op,
    Pattern,
    maybe,
)
from tilewright.passes.relax_constants import array_of, is_constant
from tilewright.passes.shapes import shape_of
from tilewright.passes.views import way

_SCALE = ("relax.multiply", "relax.divide")
# A constant that hides keys adds at most this: exp underflows to 0 in float32.
_HIDES = -1e3


def _scaled(x: Pattern, name: str | None = None) -> Pattern:
    return maybe(lambda v: Op(_SCALE, v, Constant(), name=name), x)


def _cut(name: str) -> Pattern:
    """What is projected: all of a value, or a slice of a joint projection."""
    return maybe(lambda v: Op("relax.strided_slice", v), Any(name))


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


def _masked(scaled: Pattern) -> Pattern:
    """The scores, with bias and mask where they are there; MASKS name its operator."""
    # Swin adds a table of biases and, with the windows as an axis of their own, a mask.
    biased = Op("relax.add", scaled, Any("bias"))
    windows = Op("relax.add", Op("relax.reshape", biased), Any("mask"), name="add")
    return Either(
        Op("relax.reshape", windows),
        Op("relax.add", Either(biased, scaled), Any("mask"), name="add"),
        Op("relax.where", Any("mask"), scaled, Constant("fill"), name="where_keep"),
        Op("relax.where", Any("mask"), Constant("fill"), scaled, name="where_drop"),
        scaled,
    )


def pattern() -> Pattern:
    """Projected q, k and v to merged heads."""
    q = _scaled(_heads(_scaled(_cut("q"))))
    keys = _scaled(_cut("k"))
    parted = Op("relax.reshape", keys, name="parted_keys")
    k = _scaled(Either(_transposed(_heads(keys)), parted, _heads(keys)))
    v = _shared(_heads(_cut("v")))
    scores = Op("relax.matmul", q, k, name="scores")
    tanh = Op("relax.tanh", _scaled(_scaled(scores)), name="tanh")
    capped = Op("relax.multiply", tanh, Constant("softcap"))
    masked = _masked(Either(capped, _scaled(scores, "scaled")))
    softmax = Op("relax.nn.softmax", masked, name="softmax")
    guarded = Op(
        "relax.where", Op("relax.isnan", softmax), Constant(value=0), softmax, name="guard"
    )
    weighted = Op("relax.matmul", Either(guarded, softmax), v, name="weighted")
    turned = Op("relax.permute_dims", weighted, name="turned")
    return Either(Op("relax.reshape", turned, name="merged"), turned, weighted)


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
    parted = match.get("parted_keys")
    if parted is not None and any(isinstance(size, str) for size in shape_of(parted)):
        return Decline("the keys are parted in heads of open sizes", at=parted)
    ends = _ends(match, graph)
    ways = {name: way(end, match[name], graph) for name, end in ends.items()}
    factors = [f for _, found in ways.values() for f in found] + _score_factors(match, graph)
    for factor in factors:
        if factor.size != 1:
            return Decline(
                f"a factor has shape {factor.shape}, want one number", at=match["scores"]
            )
    fill = match.get("fill")
    if fill is not None and np.unique(array_of(fill)).size != 1:
        return Decline("masked scores become several numbers, want one", at=match["softmax"])
    batch, heads, queries, keys = scores if len(scores) == 4 else (1, *scores)
    shared, mask, cap = (match.get(name) for name in ("repeated_keys", "mask", "softcap"))
    causal = _causal_fill(match, queries, keys, graph)
    return AttentionSpec(
        dtype=str(match["scores"].ty.dtype),
        batch=batch,
        heads=heads,
        kv_heads=heads if shared is None else shape_of(shared)[1],
        queries=queries,
        keys=keys,
        head_size=shape_of(ends["q"])[-1],
        value_size=weighted[-1],
        **_operands(match, {name: views for name, (views, _) in ways.items()}),
        y=way(_result(match), match["weighted"], graph)[0],
        scale=float(f"{math.prod(factor.item() for factor in factors):.7g}"),
        softcap=0.0 if cap is None else array_of(cap).item(),
        bias=None if match.get("bias") is None else shape_of(match["bias"]),
        mask=_masking(match),
        mask_shape=None if mask is None else shape_of(mask),
        fill=causal if fill is None else float(array_of(fill).flat[0]),
        causal=causal is not None,
        guarded=match.get("guard") is not None,
    )


def _ends(match: Match, graph: Graph) -> dict[str, relax.Expr]:
    """What the two products read: q, k and v after their views and factors."""
    (q, k), (_, v) = (graph.bound(match[name])[1].args for name in ("scores", "weighted"))
    return {"q": q, "k": k, "v": v}


def _score_factors(match: Match, graph: Graph) -> list[np.ndarray]:
    """What the scores are multiplied by; a cap c makes c * tanh(s / c) of them."""
    if (tanh := match.get("tanh")) is not None:
        _, factors = way(graph.bound(tanh)[1].args[0], match["scores"], graph)
        return [*factors, array_of(match["softcap"])]
    top = match.get("scaled")
    return [] if top is None else way(top, match["scores"], graph)[1]


def _operands(match: Match, views: Mapping[str, tuple]) -> dict[str, Operand]:
    sources: list[relax.Expr] = []
    for name in views:
        if not any(match[name].same_as(known) for known in sources):
            sources.append(match[name])
    return {
        name: Operand(
            source=next(n for n, known in enumerate(sources) if known.same_as(match[name])),
            shape=shape_of(match[name]),
            views=found,
        )
        for name, found in views.items()
    }


def _result(match: Match) -> relax.Expr:
    ends = (match.get(name) for name in ("merged", "turned", "weighted"))
    return next(end for end in ends if end is not None)


def _masking(match: Match) -> str:
    return next((way for way in MASKS if match.get(way) is not None), "none")


def _causal_fill(match: Match, queries: Dim, keys: Dim, graph: Graph) -> float | None:
    """What stands for a score hidden by a constant causal mask; None for another mask."""
    mask, masking = match.get("mask"), _masking(match)
    mask = None if mask is None else graph.bound(mask)[1]
    if mask is None or not is_constant(mask) or (queries, keys) != array_of(mask).shape[-2:]:
        return None
    values = array_of(mask)
    hidden = np.triu(np.ones((queries, keys), bool), 1)
    if values.size != hidden.size or not hidden.any():
        return None
    values = values.reshape(hidden.shape)
    if masking == "add":
        fills = np.unique(values[hidden])
        hides = fills.size == 1 and fills[0] <= _HIDES and not values[~hidden].any()
        return float(fills[0]) if hides else None
    if np.array_equal(values.astype(bool), hidden if masking == "where_drop" else ~hidden):
        return float(array_of(match["fill"]).flat[0])
    return None


ATTENTION = Fusion("attention", pattern(), accept)
