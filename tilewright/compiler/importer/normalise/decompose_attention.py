"""Attention operators to plain nodes, which the importer and the attention fusion know.

Before   y = Attention(q, k, v, mask, is_causal=1)
After    y = MatMul(Softmax(Where(mask, MatMul(q, Transpose(k)) * scale, -inf)), v)

ONNX's own Attention (opset 23 and later), and ONNX Runtime's Attention and MultiHeadAttention.
Of the former, those with a cache (past and present keys), lengths per row, further results or a
window have become their definition before (`expand_functions`); of the latter they are refused, by
name.
Source: https://onnx.ai/onnx/operators/onnx__Attention.html
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tilewright.compiler.importer.graph import domain_of
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.attention_nodes import (
    Expansion,
    Mask,
    attend,
    default_scale,
    goes_beyond,
)
from tilewright.compiler.importer.normalise.contrib_attention import (
    contrib_attention,
    multi_head_attention,
)
from tilewright.compiler.importer.normalise.fold import (
    fold_constants,
    infer_dtypes,
    infer_shapes,
)


def decompose_attention(model: OnnxModel) -> None:
    """Replace every attention operator of the main graph; raises UnsupportedModel, see above."""
    changed = False
    while any(_rule(node) for node in model.graph.node):
        _decompose_once(model)
        changed = True
    if changed:
        fold_constants(model)


def _decompose_once(model: OnnxModel) -> None:
    """The first one, and all others whose inputs are known.

    onnx infers nothing past an operator of ONNX Runtime's: what follows one waits a round.
    """
    shapes, dtypes = infer_shapes(model), infer_dtypes(model)
    kept: list[onnx.NodeProto] = []
    first = True
    for node in model.graph.node:
        rule = _rule(node)
        known = all(name in shapes and name in dtypes for name in node.input if name)
        if rule is None or not (first or known):
            kept.append(node)
            continue
        to = Expansion(model, node, shapes, dtypes)
        rule(to)
        kept.extend(to.nodes)
        first = False
    del model.graph.node[:]
    model.graph.node.extend(kept)


def attention(to: Expansion) -> None:
    """ONNX's Attention, opset 23 and later."""
    if goes_beyond(to.node):
        # Its definition needs types that were not known.
        raise to.refusal(
            "attention with a cache, lengths, a window or further results, of unknown types",
            "inputs whose types follow from ONNX's own operators",
            "inputs",
        )
    q, k, v = (to.input(place) for place in range(3))
    dtype = to.dtype
    flat = len(to.shape(q, "Q", 3, 4)) == 3
    if flat:
        heads, kv_heads = to.attribute("q_num_heads"), to.attribute("kv_num_heads")
        sizes = [
            _head_size(to, value, what, count)
            for value, what, count in ((q, "Q", heads), (k, "K", kv_heads), (v, "V", kv_heads))
        ]
        queries, keys = to.shape(q, "Q", 3)[1], to.shape(k, "K", 3)[1]
        q = to.heads("q", q, heads, sizes[0])
        k = to.heads("k", k, kv_heads, sizes[1])
        v = to.heads("v", v, kv_heads, sizes[2])
    else:
        (_, heads, queries, size), (_, kv_heads, keys, _) = to.shape(q, "Q", 4), to.shape(k, "K", 4)
        sizes = [size, size, to.shape(v, "V", 4)[3]]
        if not all(isinstance(n, int) for n in (heads, kv_heads, *sizes)):
            raise to.refusal("heads or their size are not fixed", "fixed sizes", "inputs Q, K, V")
    if heads != kv_heads:
        k = _repeated(to, "k", k, kv_heads, heads, sizes[1])
        v = _repeated(to, "v", v, kv_heads, heads, sizes[2])
    masks = _masks(to, queries, keys, dtype)
    attend(
        to,
        q,
        k,
        v,
        scale=to.attribute("scale") or default_scale(sizes[0]),
        softcap=to.attribute("softcap", 0.0),
        masks=masks,
        # A causal mask leaves each query its own place.
        guarded=to.input(3) is not None,
        merged=flat,
        precision=to.attribute("softmax_precision"),
    )


def _head_size(to: Expansion, value: str, what: str, heads: int | None) -> int:
    width = to.shape(value, what, 3)[2]
    if not isinstance(width, int) or not heads or width % heads:
        raise to.refusal(
            f"{what} has {width} columns for {heads} heads",
            "a multiple of the heads",
            f"input {what!r}",
        )
    return width // heads


def _repeated(to: Expansion, what: str, x: str, kv_heads: int, heads: int, size: int) -> str:
    """Each key or value head once per query head of its group: [batch, heads, keys, size]."""
    wide = to.add("Unsqueeze", f"{what}_group", x, to.ints(f"{what}_axis", 2))
    copies = to.ints(f"{what}_copies", 1, 1, heads // kv_heads, 1, 1)
    wide = to.add("Expand", f"{what}_repeated", wide, copies)
    return to.add(
        "Reshape", f"{what}_shared", wide, to.ints(f"{what}_shared_shape", 0, heads, -1, size)
    )


def _masks(
    to: Expansion, queries: int | str | None, keys: int | str | None, dtype: np.dtype
) -> tuple[Mask, ...]:
    mask = to.input(3)
    seen = to.causal(queries, keys) if to.attribute("is_causal", 0) else None
    if mask is not None:
        last = (to.shape(mask, "attn_mask", 1, 2, 3, 4))[-1]
        if isinstance(last, int) and isinstance(keys, int) and last != keys:
            raise to.refusal(
                f"a mask for {last} of {keys} keys", f"{keys} columns", "input 'attn_mask'"
            )
    if mask is not None and to.dtypes[mask] == np.bool_:
        if seen is not None:
            mask = to.add("And", "seen", mask, to.constant("causal", seen, bool))
        return (Mask("Where", mask, -np.inf),)
    found: list[Mask] = []
    if seen is not None:
        hidden = np.where(seen, 0, -np.inf)
        found.append(Mask("Add", to.constant("causal", hidden, dtype)))
    if mask is not None:
        found.append(Mask("Add", mask))
    return tuple(found)


# Which attention operator is written out by whom.
DECOMPOSED: dict[tuple[str, str], Callable[[Expansion], None]] = {
    ("", "Attention"): attention,
    ("com.microsoft", "Attention"): contrib_attention,
    ("com.microsoft", "MultiHeadAttention"): multi_head_attention,
}


def _rule(node: onnx.NodeProto) -> Callable[[Expansion], None] | None:
    return DECOMPOSED.get((domain_of(node), node.op_type))
