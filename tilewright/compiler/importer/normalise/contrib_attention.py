"""ONNX Runtime's Attention and MultiHeadAttention as plain nodes.

Before   y = com.microsoft.Attention(x, w, b, mask)
After    p = MatMul(x, w) + b;  y = merge(softmax(q k^T * scale + mask) v), q, k, v slices of p

Masks: a key padding mask [batch, keys] (0 hides a key), a bias added to the scores, and
`unidirectional`. Refuses caches, masks in other forms, packed queries, and rotary embedding.
Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import numpy as np

from tilewright.compiler.importer.normalise.attention_nodes import (
    Expansion,
    Mask,
    attend,
    default_scale,
)
from tilewright.compiler.importer.normalise.fold import Shape

_MASK_FILL = -10000.0


def contrib_attention(to: Expansion) -> None:
    """com.microsoft.Attention: the projection of one input, and attention."""
    to.refuse_given({4: "past", 6: "past_sequence_length"}, {1: "present"})
    if to.attribute("do_rotary", 0):
        raise to.refusal("attention with rotary embedding", "do_rotary=0", "attribute 'do_rotary'")
    x, weights, bias = (to.input(place) for place in range(3))
    tokens = to.shapes.get(x, (None,) * 3)[1]
    columns = to.shape(weights, "weights", 2)[1]
    widths = tuple(to.attribute("qkv_hidden_sizes", ())) or (columns // 3,) * 3
    joint = to.add("MatMul", "projected", x, weights)
    if bias is not None:
        joint = to.add("Add", "biased", joint, bias)
    heads = to.attribute("num_heads")
    begin, parts = 0, []
    for what, width in zip("qkv", widths, strict=True):
        part = _cut(to, what, joint, begin, begin + width, axis=2)
        parts.append(to.heads(what, part, heads, width // heads))
        begin += width
    masks = _masks(to, tokens, tokens, padding=3, bias=5)
    attend(to, *parts, scale=_scale(to, widths[0] // heads), masks=masks)


def multi_head_attention(to: Expansion) -> None:
    """com.microsoft.MultiHeadAttention: attention of projected inputs, biases not yet added."""
    to.refuse_given(
        {
            6: "past_key",
            7: "past_value",
            8: "past_sequence_length",
            9: "cache_indirection",
        },
        {1: "present_key", 2: "present_value", 3: "qk"},
    )
    given = {"query": to.input(0), "key": to.input(1), "value": to.input(2)}
    for what, value in given.items():
        if value is None:
            raise to.refusal(
                f"attention with a packed query: {what} is not given",
                "query, key and value as three inputs",
                f"input {what!r}",
            )
    shapes = {what: to.shape(value, what, 3) for what, value in given.items()}
    heads, bias = to.attribute("num_heads"), to.input(3)
    begin, parts = 0, []
    for what, value in given.items():
        width = shapes[what][2]
        if not isinstance(width, int) or width % heads:
            raise to.refusal(
                f"{what} has {width} columns for {heads} heads",
                "a multiple of the heads",
                f"input {what!r}",
            )
        if bias is not None:
            row = _cut(to, f"{what}_bias", bias, begin, begin + width, axis=0)
            value = to.add("Add", f"{what}_biased", value, row)
            begin += width
        parts.append(to.heads(what, value, heads, width // heads))
    masks = _masks(to, shapes["query"][1], shapes["key"][1], padding=4, bias=5)
    attend(to, *parts, scale=_scale(to, shapes["query"][2] // heads), masks=masks)


def _cut(to: Expansion, what: str, x: str, begin: int, end: int, axis: int) -> str:
    limits = (to.ints(f"{what}_begin", begin), to.ints(f"{what}_end", end))
    return to.add("Slice", what, x, *limits, to.ints(f"{what}_axis", axis))


def _scale(to: Expansion, size: int) -> float:
    return to.attribute("scale", 0.0) or default_scale(size)


def _masks(
    to: Expansion,
    queries: int | str | None,
    keys: int | str | None,
    padding: int,
    bias: int,
) -> tuple[Mask, ...]:
    """What is added to the scores; `padding` and `bias` are the places of the inputs."""
    dtype = to.dtype
    found: list[Mask] = []
    if (added := to.input(bias)) is not None:
        found.append(Mask("Add", added))
    if (mask := to.input(padding)) is not None:
        _check_padding(to, mask, keys)
        fill = to.attribute("mask_filter_value", _MASK_FILL)
        zero = to.constant("nothing", 0, to.dtypes[mask])
        kept = to.add("Greater", "kept_keys", mask, zero)
        row = (to.constant("kept", 0, dtype), to.constant("hidden", fill, dtype))
        row = to.add("Where", "key_mask", kept, *row)
        shape = to.ints("key_mask_shape", 0, 1, 1, -1)
        found.append(Mask("Add", to.add("Reshape", "key_mask_heads", row, shape)))
    if to.attribute("unidirectional", 0):
        if queries != keys:
            # Runtimes disagree on which key the first query belongs to.
            raise to.refusal(
                f"a causal mask for {queries} queries and {keys} keys",
                "as many queries as keys",
                "attribute 'unidirectional'",
            )
        seen = to.causal(queries, keys)
        hidden = np.where(seen, 0, np.finfo(dtype).min)
        found.append(Mask("Add", to.constant("causal", hidden, dtype)))
    return tuple(found)


def _check_padding(to: Expansion, mask: str, keys: int | str | None) -> None:
    names = {"Attention": "mask_index", "MultiHeadAttention": "key_padding_mask"}
    name = names[to.node.op_type]
    shape: Shape | None = to.shapes.get(mask)
    if shape is None or len(shape) != 2 or keys not in (None, shape[1]):
        shown = "not known" if shape is None else list(shape)
        raise to.refusal(
            f"a mask of shape {shown}", f"[batch, {keys}], 0 for a hidden key", f"input {name!r}"
        )
