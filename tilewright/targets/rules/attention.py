"""Attention in one kernel: no score matrix in memory, operands and result where they lie.

    parallel for piece in batch x heads x blocks of queries:
        for block of keys:
            for panel of queries (a few vectors of them, packed [d][query]):
                scores[key, query] = cap(sum over d of k[key, d] * q[d, query]) + bias, masked
                m, old = max(m, scores over keys), m
                p = exp(scores - m);  l = l * exp(old - m) + sum of p
                out[query, :] = out[query, :] * exp(old - m) + sum over keys of p[key, query] * v
        y = out / l

Scores are held with their queries side by side: maximum, exponential and sum are vectors of
queries, and k and v are read row by row from the projection they are a part of (`attention_rows`
where they do not lie in rows). A block of scores stays in L1. Keys that a causal mask hides from
all of a panel are not computed.

Sources: Dao et al. 2022, "FlashAttention", section 3.1; Milakov and Gimelshein 2018, "Online
normalizer calculation for softmax".
"""

from __future__ import annotations

from tilewright.ops import AttentionSpec
from tilewright.targets.rules.attention_nest import Blocking, Nest
from tilewright.targets.rules.attention_rows import in_rows, result_copy
from tilewright.targets.rules.attention_scores import MOST_VECTORS, Scores
from tilewright.targets.rules.attention_views import open_sizes
from tilewright.targets.rules.blocking import shares
from tilewright.targets.rules.knobs import pick, scaled
from tilewright.targets.rules.register_tile import lanes_of, most_rows
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Packed, Rule
from tilewright.targets.rules.tir import Flat, Kernel
from tilewright.targets.target import Target

FLOAT_BYTES = 4


def default_blocking(kernel: str, spec: AttentionSpec, target: Target) -> Blocking:
    """Knobs from L1 and the shape: a block of scores takes half of L1."""
    lanes = lanes_of(target)
    if open_sizes(spec):
        return _open_blocking(kernel, lanes, target)
    most_vectors = -(-spec.queries // lanes)
    vectors = pick(
        kernel, "vectors", range(1, min(MOST_VECTORS, most_vectors) + 1), min(2, most_vectors)
    )
    most = target.l1d_bytes // 2 // (FLOAT_BYTES * vectors * lanes)
    blocks = -(-spec.keys // most)
    panels = -(-spec.queries // (vectors * lanes))
    # Keys and values are fetched again for every piece: as few as keep all threads busy.
    wanted = -(-shares(target) // (spec.batch * spec.heads))
    width, keys = -(-panels // min(panels, wanted)), -(-spec.keys // blocks)
    return Blocking(
        vectors,
        pick(kernel, "panels", scaled(width, panels), width),
        pick(kernel, "keys", scaled(keys, spec.keys), keys),
    )


def _open_blocking(kernel: str, lanes: int, target: Target) -> Blocking:
    """Of open sizes: four panels a piece share the keys that it fetches."""
    # Panels of three would end behind the rows of a mask, which are whole panels of four.
    vectors = pick(kernel, "vectors", (1, 2, MOST_VECTORS), 2)
    keys = target.l1d_bytes // 2 // (FLOAT_BYTES * vectors * lanes)
    # Whole tiles: with a lower one at the end, its code is there twice.
    rows = most_rows(target, vectors)
    keys = max(rows, keys // rows * rows)
    panels = pick(kernel, "panels", scaled(4, 16), 4)
    return Blocking(vectors, panels, pick(kernel, "keys", scaled(keys, 4 * keys), keys))


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: AttentionSpec = call.spec
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    if not all(isinstance(n, int) for n in (spec.heads, spec.head_size, spec.value_size)):
        return "the heads, or the sizes of a query or a value, are open"
    if 0 in (spec.batch, spec.heads, spec.queries, spec.keys, spec.head_size, spec.value_size):
        return "nothing to compute"
    if unknown := set(open_sizes(spec)) - {n for a in call.arguments for n in a.shape}:
        return f"no argument has the size {min(unknown)}"
    try:
        in_rows(call)
    except ValueError as problem:
        return f"an operand has no strides: {problem}"
    return Scores.refuses(call)


def _lower(call: GroupCall, target: Target) -> Lowered:
    rows = in_rows(call)
    kernel = Kernel(f"{call.name}_rows" if rows.copied else call.name)
    launches = list(rows.launches)
    inputs: list[Given | Packed | int] = []
    flats: dict[Given | int, Flat] = {}
    for role, source in zip("qkv", rows.sources, strict=True):
        if source not in flats:
            flats[source] = kernel.param(getattr(rows.spec, role).shape, "float32", role)
            inputs.append(source)
    scores = Scores(call, kernel, lanes_of(target), launches)
    y = kernel.param(rows.y, "float32", "y")
    blocking = default_blocking(kernel.name, rows.spec, target)
    nest = Nest(rows.spec, blocking, target, scores, kernel.size)
    made = kernel.finish(nest.body(*(flats[source] for source in rows.sources), y))
    launches.append(Launch(made, (*inputs, *scores.inputs), rows.y, "float32"))
    if rows.copied:
        launches.append(result_copy(call, rows, len(launches) - 1))
    return Lowered(tuple(launches), rows.channels_last)


ATTENTION = Rule("attention", AttentionSpec, _refuses, _lower)
