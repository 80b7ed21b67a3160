from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from tests.net import Net, declined, fused, groups, keeps_numbers

HEADS, SIZE, WIDTH, TOKENS = 4, 6, 24, 5
SCALE = 1 / math.sqrt(SIZE)


def _split(net: Net, x: str, heads: int = HEADS, perm: tuple = (0, 2, 1, 3)) -> str:
    return net.Transpose(net.Reshape(x, net.ints(0, -1, heads, SIZE)), perm=list(perm))


def _merge(net: Net, y: str, width: int = WIDTH) -> str:
    return net.Reshape(net.Transpose(y, perm=[0, 2, 1, 3]), net.ints(0, -1, width))


def _projected(batch: int | str = 2, keys: int | str = TOKENS, **more: tuple) -> Net:
    return Net(
        opset=17,
        q=(batch, TOKENS, WIDTH),
        k=(batch, keys, WIDTH),
        v=(batch, keys, WIDTH),
        **more,
    )


def _heads(net: Net) -> tuple[str, str, str]:
    """Q, K transposed, V."""
    return _split(net, "q"), _split(net, "k", perm=(0, 2, 3, 1)), _split(net, "v")


def _spec(work) -> object:
    (group,) = work.fusions.groups
    assert group.fusion == "attention"
    return group.spec


SCALES = {
    "none": (None, None, None),
    "scores_mul": (None, None, lambda n, s: n.Mul(s, SCALE)),
    "scores_mul_first": (None, None, lambda n, s: n.Mul(SCALE, s)),
    "scores_div": (None, None, lambda n, s: n.Div(s, math.sqrt(SIZE))),
    "q": (lambda n, q: n.Mul(q, SCALE), None, None),
    "q_div": (lambda n, q: n.Div(q, math.sqrt(SIZE)), None, None),
    "k": (None, lambda n, k: n.Mul(k, SCALE), None),
    "both": (lambda n, q: n.Mul(q, SCALE**0.5), lambda n, k: n.Mul(k, SCALE**0.5), None),
}


@pytest.mark.parametrize("where", SCALES)
def test_fuses_each_place_of_the_scale(where, tmp_path):
    net = _projected()
    q, k, v = _heads(net)
    on_q, on_k, on_scores = SCALES[where]
    q, k = (on_q(net, q) if on_q else q), (on_k(net, k) if on_k else k)
    scores = net.MatMul(q, k)
    scores = on_scores(net, scores) if on_scores else scores
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), v))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.batch, spec.heads, spec.kv_heads) == (2, HEADS, HEADS)
    assert (spec.queries, spec.keys, spec.head_size, spec.value_size) == (5, 5, SIZE, SIZE)
    assert spec.mask == "none" and not spec.guarded and not spec.causal
    assert spec.scale == (1.0 if where == "none" else float(f"{SCALE:.7g}"))


def test_fuses_a_scale_before_the_heads_are_split(tmp_path):
    net = _projected()
    q = _split(net, net.Mul("q", SCALE))
    k, v = _split(net, "k", perm=(0, 2, 3, 1)), _split(net, "v")
    y = _merge(net, net.MatMul(net.Softmax(net.MatMul(q, k), axis=-1), v))
    assert _spec(keeps_numbers(net.model(y), tmp_path)).scale == float(f"{SCALE:.7g}")


def _swapped(net: Net, k: str) -> str:
    return net.Transpose(k, perm=[0, 1, 3, 2])


def test_fuses_keys_transposed_twice(tmp_path):
    net = _projected()
    q, k, v = (_split(net, x) for x in "qkv")
    scores = net.MatMul(q, _swapped(net, k))
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), v))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    # `simplify` makes one transpose of the two.
    assert [view for view, _ in spec.k.views] == ["reshape", "transpose"]


# How the mask takes part, its shape, what hides a score, the shape of a bias before it.
WHOLE = (2, 1, 5, 5)
MASK_SPECS = {
    "added": ("add", WHOLE, None, None),
    "added_first": ("add", WHOLE, None, None),
    "causal": ("add", (5, 5), -1e9, None),
    "selected": ("where_keep", WHOLE, -1e9, None),
    "selected_causal": ("where_keep", (5, 5), -np.inf, None),
    "filled": ("where_drop", WHOLE, -1e9, None),
    "filled_causal": ("where_drop", (1, 5, 5), -1e9, None),
    "bias_and_mask": ("add", WHOLE, None, (1, HEADS, 5, 5)),
    "not_quite_causal": ("add", (5, 5), None, None),
}
LATER = np.triu(np.ones((5, 5), bool), 1)
MASKS = {
    "added": lambda n, s: n.Add(s, "m"),
    "added_first": lambda n, s: n.Add("m", s),
    "causal": lambda n, s: n.Add(s, n.const(np.where(LATER, -1e9, 0))),
    "selected_causal": lambda n, s: n.Where(n.const(~LATER, bool), s, -np.inf),
    "filled_causal": lambda n, s: n.Where(n.const(LATER[None], bool), -1e9, s),
    "not_quite_causal": lambda n, s: n.Add(s, n.const(np.triu(np.full((5, 5), -1e9), 2))),
    "selected": lambda n, s: n.Where(n.Greater("m", 0.0), s, -1e9),
    "filled": lambda n, s: n.Where(n.Greater("m", 0.0), -1e9, s),
    "bias_and_mask": lambda n, s: n.Add(n.Add(s, n.weight(1, HEADS, 5, 5)), "m"),
}


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("scale", ["before", "after"])
@pytest.mark.parametrize("mask", MASKS)
def test_fuses_masks_and_guards(mask, scale, guard, tmp_path):
    net = _projected(m=(2, 1, 5, 5))
    q, k, v = _heads(net)
    if scale == "after":
        q = net.Mul(q, SCALE)
    scores = net.MatMul(q, k)
    if scale == "before":
        scores = net.Mul(scores, SCALE)
    weights = net.Softmax(MASKS[mask](net, scores), axis=-1)
    if guard:
        weights = net.Where(net.IsNaN(weights), 0.0, weights)
    y = _merge(net, net.MatMul(weights, v))
    work = keeps_numbers(net.model(y), tmp_path)
    (group,) = (g for g in work.fusions.groups if g.fusion == "attention")
    assert len(work.fusions.groups) == 1
    spec = group.spec
    assert (spec.mask, spec.mask_shape, spec.fill, spec.bias) == MASK_SPECS[mask]
    assert spec.guarded == guard
    assert spec.causal == (mask in ("causal", "selected_causal", "filled_causal"))


def test_a_row_masked_out_is_guarded(tmp_path):
    net = _projected(m=(2, 1, 5, 5))
    q, k, v = _heads(net)
    weights = net.Softmax(net.Add(net.MatMul(q, k), "m"), axis=-1)
    weights = net.Where(net.IsNaN(weights), 0.0, weights)
    mask = np.zeros((2, 1, 5, 5), np.float32)
    mask[0, 0, 2] = -np.inf
    given = {"m": mask}
    work = keeps_numbers(net.model(_merge(net, net.MatMul(weights, v))), tmp_path, given=given)
    assert _spec(work).guarded


def test_fuses_windows_with_a_table_and_a_mask(tmp_path):
    """Swin: biases per head, then a mask per window with the windows as an axis of their own."""
    net = Net(q=(6, 5, WIDTH), k=(6, 5, WIDTH), v=(6, 5, WIDTH))
    q, k, v = _heads(net)
    scores = net.Add(net.Mul(net.MatMul(q, k), SCALE), net.weight(1, HEADS, 5, 5))
    wide = net.Reshape(scores, net.ints(2, 3, HEADS, 5, 5))
    scores = net.Reshape(net.Add(wide, net.weight(1, 3, 1, 5, 5)), net.ints(6, HEADS, 5, 5))
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), v))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.bias, spec.mask_shape) == ((1, HEADS, 5, 5), (1, 3, 1, 5, 5))


def test_fuses_capped_scores(tmp_path):
    """Gemma 2: cap * tanh(scores * scale / cap), then the mask."""
    net = _projected(m=WHOLE)
    q, k, v = _heads(net)
    scores = net.Div(net.Mul(net.MatMul(q, k), 0.3), 2.0)
    scores = net.Add(net.Mul(net.Tanh(scores), 2.0), "m")
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), v))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.scale, spec.softcap, spec.mask) == (0.3, 2.0, "add")


@pytest.mark.parametrize("cut", ["slice", "split", "gather"])
def test_fuses_a_joint_projection(cut, tmp_path):
    net = Net(x=(2, TOKENS, WIDTH))
    joint = net.MatMul("x", net.weight(WIDTH, 3 * WIDTH))
    if cut == "split":
        q, k, v = (_split(net, part) for part in net.add("Split", joint, outputs=3, axis=-1))
    else:
        joint = net.Reshape(joint, net.ints(0, TOKENS, 3, HEADS, SIZE))
        joint = net.Transpose(joint, perm=[2, 0, 3, 1, 4])
        if cut == "gather":
            q, k, v = (net.Gather(joint, net.const(n, np.int64), axis=0) for n in range(3))
        else:
            q, k, v = (
                net.Squeeze(net.Slice(joint, net.ints(n), net.ints(n + 1)), net.ints(0))
                for n in range(3)
            )
    scores = net.MatMul(net.Mul(q, SCALE), _swapped(net, k))
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), v))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["linear", "attention"]
    assert work.fusions.groups[1].spec.joint == (cut == "slice")


def _repeat(net: Net, x: str, tokens: int | str = TOKENS) -> str:
    wide = net.Expand(net.Unsqueeze(x, net.ints(2)), net.ints(2, 2, 2, TOKENS, SIZE))
    return net.Reshape(wide, net.ints(2, HEADS, TOKENS, SIZE))


def test_fuses_grouped_queries(tmp_path):
    half = (2, TOKENS, WIDTH // 2)
    net = Net(q=(2, TOKENS, WIDTH), k=half, v=half)
    q, k, v = _split(net, "q"), _split(net, "k", 2), _split(net, "v", 2)
    scores = net.Mul(net.MatMul(q, _swapped(net, _repeat(net, k))), SCALE)
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), _repeat(net, v)))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.heads, spec.kv_heads) == (HEADS, 2)


def test_as_many_keys_as_half_the_heads_are_no_grouped_queries(tmp_path):
    net = Net(q=(2, 5, HEADS, SIZE), k=(2, 2, HEADS, SIZE), v=(2, 2, HEADS, SIZE))
    q, v = (net.Transpose(x, perm=[0, 2, 1, 3]) for x in "qv")
    k = net.Transpose("k", perm=[0, 2, 3, 1])
    y = _merge(net, net.MatMul(net.Softmax(net.MatMul(q, k), axis=-1), v))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.heads, spec.kv_heads, spec.keys) == (HEADS, HEADS, 2)


def test_fuses_cross_attention(tmp_path):
    net = _projected(keys=7)
    q, k, v = _heads(net)
    y = _merge(net, net.MatMul(net.Softmax(net.MatMul(q, k), axis=-1), v))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.queries, spec.keys) == (5, 7)


def _channels_first(net: Net, x: str, perm: tuple | None = None) -> str:
    """[batch, heads * size, tokens], as a convolution leaves it, to heads."""
    heads = net.Reshape(x, net.ints(0, HEADS, SIZE, -1))
    return heads if perm is None else net.Transpose(heads, perm=list(perm))


@pytest.mark.parametrize("values_first", [False, True])
def test_fuses_channels_first(values_first, tmp_path):
    """As squeezebert has it, and with the values before the weights, as YOLO has it."""
    net = Net(opset=17, **dict.fromkeys("qkv", (2, WIDTH, TOKENS)))
    scores = net.MatMul(_channels_first(net, "q", (0, 1, 3, 2)), _channels_first(net, "k"))
    weights = net.Softmax(scores, axis=-1)
    if values_first:
        y = net.MatMul(_channels_first(net, "v"), net.Transpose(weights, perm=[0, 1, 3, 2]))
    else:
        y = net.MatMul(weights, _channels_first(net, "v", (0, 1, 3, 2)))
        y = net.Transpose(y, perm=[0, 1, 3, 2])
    work = keeps_numbers(net.model(net.Reshape(y, net.ints(0, WIDTH, -1))), tmp_path)
    spec = _spec(work)
    assert (spec.head_size, spec.value_size, spec.keys) == (SIZE, SIZE, TOKENS)
    assert not work.refusals


def test_keys_parted_in_heads_of_open_sizes_stay_outside(tmp_path):
    net = Net(opset=17, **dict.fromkeys("qkv", (2, WIDTH, "n")))
    scores = net.MatMul(_channels_first(net, "q", (0, 1, 3, 2)), _channels_first(net, "k"))
    y = net.MatMul(net.Softmax(scores, axis=-1), _channels_first(net, "v", (0, 1, 3, 2)))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert spec.k.shape == (2, HEADS, SIZE, "n")


def test_fuses_a_flat_batch_of_heads(tmp_path):
    """Whisper and old BART: [batch * heads, tokens, size] throughout."""
    net = Net(q=(8, 5, SIZE), k=(8, 7, SIZE), v=(8, 7, SIZE))
    scores = net.MatMul("q", net.Transpose("k", perm=[0, 2, 1]))
    y = net.MatMul(net.Softmax(net.Mul(scores, SCALE), axis=-1), "v")
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.batch, spec.heads, spec.queries, spec.keys) == (1, 8, 5, 7)


@pytest.mark.parametrize("sizes", [("n", TOKENS), (2, "s"), ("n", "s")], ids=str)
def test_fuses_open_sizes(sizes, tmp_path):
    net = _projected(*sizes)
    q, k, v = _heads(net)
    scores = net.Mul(net.MatMul(q, k), SCALE)
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), v))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.batch, spec.keys) == sizes


def test_declines_a_softmax_over_another_axis(tmp_path):
    net = _projected()
    q, k, v = _heads(net)
    y = _merge(net, net.MatMul(net.Softmax(net.MatMul(q, k), axis=2), v))
    work = keeps_numbers(net.model(y), tmp_path)
    assert "attention" not in " ".join(groups(work))
    assert declined(work, "attention") == {"the softmax is over axis 2, want the last"}


def test_declines_scores_of_rank_five(tmp_path):
    net = Net(q=(1, 2, 3, 5, 6), k=(1, 2, 3, 6, 5), v=(1, 2, 3, 5, 6))
    y = net.MatMul(net.Softmax(net.MatMul("q", "k"), axis=-1), "v")
    work = keeps_numbers(net.model(y), tmp_path, only=("attention",))
    assert groups(work) == []
    assert declined(work, "attention") == {"the scores' shape is not known"}


def test_declines_a_factor_per_head(tmp_path):
    net = _projected()
    q, k, v = _heads(net)
    scores = net.Mul(net.MatMul(q, k), net.weight(HEADS, 1, 1, near=1))
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), v))
    work = keeps_numbers(net.model(y), tmp_path)
    assert "attention" not in groups(work)
    assert declined(work, "attention") == {"a factor has shape (4, 1, 1), want one number"}


def test_a_factor_per_column_of_q_stays_outside(tmp_path):
    net = _projected()
    q, k, v = _heads(net)
    q = net.Mul(q, net.weight(SIZE, near=1))
    y = _merge(net, net.MatMul(net.Softmax(net.MatMul(q, k), axis=-1), v))
    spec = _spec(keeps_numbers(net.model(y), tmp_path))
    assert (spec.scale, spec.q.views) == (1.0, ())


def test_declines_several_numbers_for_masked_scores(tmp_path):
    net = _projected(m=WHOLE)
    q, k, v = _heads(net)
    fill = net.const([-1e9, -1e9, -1e9, -1e9, -1])
    scores = net.Where(net.Greater("m", 0.0), net.MatMul(q, k), fill)
    y = _merge(net, net.MatMul(net.Softmax(scores, axis=-1), v))
    work = keeps_numbers(net.model(y), tmp_path)
    assert "attention" not in groups(work)
    assert declined(work, "attention") == {"masked scores become several numbers, want one"}


def _built(change: str) -> onnx.ModelProto:
    """A small attention with one thing changed; its model."""
    net = Net(q=(2, 4, 4, 4), k=(2, 4, 4, 4), v=(2, 4, 4, 4), m=(2, 1, 4, 4))
    q, k, v = "q", net.Transpose("k", perm=[0, 1, 3, 2]), "v"
    if change == "axes":  # all sizes are 4
        q = net.Transpose("q", perm=[0, 2, 1, 3])
    if change == "keys":
        k = "k"
    if change == "one_argument":
        k = net.Transpose("q", perm=[0, 1, 3, 2])
    scores = net.MatMul(q, k)
    if change in ("scale", "other_scale"):
        scores = net.Mul(scores, 0.5 if change == "scale" else 0.25)
    if change == "softcap":
        scores = net.Mul(net.Tanh(net.Div(scores, 2.0)), 2.0)
    later = np.triu(np.ones((4, 4), bool), 1)
    where = net.Greater("m", 0.0)
    scores = {
        "add": lambda: net.Add(scores, "m"),
        "add_row": lambda: net.Add(scores, net.weight(4)),
        "bias": lambda: net.Add(net.Add(scores, net.weight(4, 4, 4)), "m"),
        "keep": lambda: net.Where(where, scores, -1e9),
        "keep_less": lambda: net.Where(where, scores, -5.0),
        "drop": lambda: net.Where(where, -1e9, scores),
        "causal": lambda: net.Add(scores, net.const(np.where(later, -1e9, 0))),
        "table": lambda: net.Add(scores, net.weight(4, 4)),
    }.get(change, lambda: scores)()
    weights = net.Softmax(scores, axis=-1)
    if change == "guard":
        weights = net.Where(net.IsNaN(weights), 0.0, weights)
    y = net.MatMul(weights, v)
    if change in ("turned", "merged"):
        y = net.Transpose(y, perm=[0, 2, 1, 3])
    return net.model(net.Reshape(y, net.ints(2, 4, 16)) if change == "merged" else y)


CHANGES = (
    *("none", "axes", "keys", "one_argument", "scale", "other_scale", "softcap", "add", "add_row"),
    *("bias", "keep", "keep_less", "drop", "causal", "table", "guard", "turned", "merged"),
)


def test_different_computations_have_different_specs(tmp_path):
    specs = {change: _spec(fused(_built(change), tmp_path)) for change in CHANGES}
    keys = {change: spec.key() for change, spec in specs.items()}
    assert len(set(keys.values())) == len(CHANGES), keys
    assert _spec(fused(_built("scale"), tmp_path)) == specs["scale"]


@pytest.mark.parametrize("shared", ["scores", "scaled", "weights", "weighted"])
def test_leaves_shared_value_alone(shared, tmp_path):
    net = _projected()
    q, k, v = _heads(net)
    values = {"scores": net.MatMul(q, k)}
    values["scaled"] = net.Mul(values["scores"], SCALE)
    values["weights"] = net.Softmax(values["scaled"], axis=-1)
    values["weighted"] = net.MatMul(values["weights"], v)
    y = _merge(net, values["weighted"])
    work = keeps_numbers(net.model(y, net.Neg(values[shared])), tmp_path)
    found = groups(work).count("attention")
    assert found == (shared == "weighted"), "what is read outside ends the group"
    reasons = declined(work, "attention")
    assert any(f"n_{values[shared]} (" in why and "has a second reader" in why for why in reasons)


def test_shared_heads_stay_outside(tmp_path):
    net = _projected()
    q, k, v = _heads(net)
    y = _merge(net, net.MatMul(net.Softmax(net.MatMul(q, k), axis=-1), v))
    work = keeps_numbers(net.model(y, net.Neg(q)), tmp_path)
    assert groups(work) == ["attention"]
    assert len(work.fusions.groups[0].members) == 9, "without the reshape and transpose of q"


def test_stops_at_a_cast(tmp_path):
    net = _projected()
    q, k, v = _heads(net)
    weights = net.Cast(net.Cast(net.Softmax(net.MatMul(q, k), axis=-1), to=10), to=1)
    work = keeps_numbers(net.model(net.MatMul(weights, v)), tmp_path)
    assert "attention" not in " ".join(groups(work))


def test_equal_layers_share_a_kernel(tmp_path):
    net = _projected()
    outputs = []
    for first, second in (("q", "k"), ("k", "v")):
        q, k = _split(net, first), _split(net, second, perm=(0, 2, 3, 1))
        outputs.append(net.MatMul(net.Softmax(net.MatMul(q, k), axis=-1), _split(net, "v")))
    work = keeps_numbers(net.model(*outputs), tmp_path)
    kernels = [g.kernel for g in work.fusions.groups if g.fusion == "attention"]
    assert len(kernels) == 2
