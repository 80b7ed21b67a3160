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
queries, and k and v are read row by row from the projection they are a part of. A block of
scores stays in L1. Keys that a causal mask hides from all of a panel are not computed.

Sources: Dao et al. 2022, "FlashAttention", section 3.1; Milakov and Gimelshein 2018, "Online
normalizer calculation for softmax".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import AttentionSpec
from tilewright.ops.attention import Operand
from tilewright.targets.rules.attention_scores import Scores
from tilewright.targets.rules.register_tile import (
    Panel,
    Reduction,
    heights,
    lanes_of,
    most_rows,
    tile,
)
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Rule
from tilewright.targets.rules.strides import Strided, placed, strided
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    Kernel,
    bind,
    branch,
    fill,
    local,
    loop,
    number,
    pieces,
    seq,
    workspace,
)
from tilewright.targets.rules.vector_math import exp_nonpositive
from tilewright.targets.target import Target

FLOAT_BYTES = 4
# Enough pieces that two to sixteen threads get nearly equal shares.
PIECES = 16
# Chains of a reduction that run side by side, so that no addition waits for the one before.
CHAINS = 4


@dataclass(frozen=True)
class Blocking:
    """The knobs: `vectors` of queries a panel, `panels` a piece, `keys` at a time."""

    vectors: int
    panels: int
    keys: int


def default_blocking(spec: AttentionSpec, target: Target) -> Blocking:
    """Knobs from L1 and the shape: a block of scores takes half of L1."""
    lanes = lanes_of(target)
    vectors = min(2, -(-spec.queries // lanes))
    most = target.l1d_bytes // 2 // (FLOAT_BYTES * vectors * lanes)
    blocks = -(-spec.keys // most)
    panels = -(-spec.queries // (vectors * lanes))
    # Keys and values are fetched again for every piece: as few as keep all threads busy.
    wanted = -(-PIECES // (spec.batch * spec.heads))
    return Blocking(vectors, -(-panels // min(panels, wanted)), -(-spec.keys // blocks))


@dataclass(frozen=True)
class _Views:
    """Where q and k [batch, heads, d, n], v and y [batch, heads, n, d] lie."""

    q: Strided
    k: Strided
    v: Strided
    y: Strided


def _views(spec: AttentionSpec) -> _Views:
    def of(operand: Operand) -> Strided:
        return strided(operand.shape, operand.views, 4)

    weighted = (spec.batch, spec.heads, spec.queries, spec.value_size)
    if spec.y and spec.y[0][0] == "transpose":
        # Scores without a batch have one axis less.
        weighted = weighted[-len(spec.y[0][1]) :]
    return _Views(of(spec.q), of(spec.k), of(spec.v), placed(weighted, spec.y, 4))


def _refuses(call: GroupCall, target: Target) -> str | None:
    spec: AttentionSpec = call.spec
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    sizes = (spec.batch, spec.heads, spec.queries, spec.keys, spec.head_size, spec.value_size)
    operands = (spec.q, spec.k, spec.v)
    numbers = [n for operand in operands for _, view in operand.views for n in view]
    shapes = [n for operand in operands for n in operand.shape]
    if not all(isinstance(n, int) for n in (*sizes, *numbers, *shapes)):
        return "sizes are open"
    if 0 in sizes:
        return "nothing to compute"
    lengths = (spec.head_size, spec.value_size, spec.value_size)
    try:
        views = _views(spec)
    except ValueError as problem:
        return f"an operand has no strides: {problem}"
    side_by_side = (views.k.stride(2), views.v.stride(3), views.y.stride(3))
    if any(stride != 1 for stride, size in zip(side_by_side, lengths, strict=True) if size > 1):
        return "the values of a key, a value or a result do not lie side by side"
    if None in (views.q.stride(2), views.q.stride(3), views.k.stride(3), views.v.stride(2)):
        return "an axis of an operand has several strides"
    if views.y.stride(2) is None:
        return "the queries of the result have several strides"
    return Scores.refuses(call)


class _Nest:
    """The loop nest of one group."""

    def __init__(
        self, spec: AttentionSpec, blocking: Blocking, target: Target, scores: Scores
    ) -> None:
        self.spec, self.blocking, self.scores = spec, blocking, scores
        self.views = _views(spec)
        self.lanes = lanes_of(target)
        self.wide = blocking.vectors * self.lanes
        self.panels = -(-spec.queries // self.wide)
        self.blocks = -(-spec.keys // blocking.keys)
        self.rows = most_rows(target, blocking.vectors)
        self.out_vectors = max(1, min(2, -(-spec.value_size // self.lanes)))
        self.out_rows = most_rows(target, self.out_vectors)

    def body(self, q: Flat, k: Flat, v: Flat, y: Flat) -> Stmt:
        spec, views = self.spec, self.views
        self.q, self.k, self.v, self.y = q, k, v, y
        stretches = -(-self.panels // self.blocking.panels)

        def piece(p: tirx.Expr) -> Stmt:
            head = tirx.floordiv(p, stretches)
            b, h = tirx.floordiv(head, spec.heads), tirx.floormod(head, spec.heads)
            first = tirx.floormod(p, stretches) * self.blocking.panels
            starts = [
                view.offset + view.place(0, b) + view.place(1, h)
                for view in (views.q, views.k, views.v, views.y)
            ]
            return bind(
                b,
                "image",
                lambda b: bind(
                    h,
                    "head",
                    lambda h: bind(
                        first,
                        "first",
                        lambda f: _bind_each(
                            starts, ("q0", "k0", "v0", "y0"), lambda at: self._piece(b, h, f, at)
                        ),
                    ),
                ),
            )

        return loop(spec.batch * spec.heads * stretches, piece, "piece", parallel=True)

    def _piece(self, b: tirx.Expr, h: tirx.Expr, first: tirx.Expr, at: list[tirx.Expr]) -> Stmt:
        spec, most = self.spec, self.blocking.panels
        self.q0, self.k0, self.v0, self.y0 = at
        self.image, self.head = b, h
        count = most if self.panels % most == 0 else tirx.min(self.panels - first, most)
        queries = most * self.wide
        self.packed, made_q = workspace(queries * spec.head_size, "float32", "packed")
        self.s, made_s = workspace(self.blocking.keys * self.wide, "float32", "scores")
        # Per query of one panel: the maximum, the factor of what came before, the sum.
        steps = [made_q, made_s]
        self.out = None
        self.factor, made = workspace(self.wide, "float32", "factor")
        steps.append(made)
        if self.blocks > 1:
            self.out, made_out = workspace(queries * spec.value_size, "float32", "out")
            self.top, made_top = workspace(queries, "float32", "top")
            self.total, made_total = workspace(queries, "float32", "total")
            steps += [
                made_out,
                made_top,
                made_total,
                fill(self.out, 0, queries * spec.value_size, self.lanes),
                fill(self.top, 0, queries, self.lanes, -math.inf),
                fill(self.total, 0, queries, self.lanes),
            ]
        steps.append(self._each_panel(first, count, self._pack))
        full, rest = divmod(spec.keys, self.blocking.keys)

        def keys(start: Index, length: int) -> Stmt:
            return self._each_panel(
                first, count, lambda i, p, w: self._block(i, p, w, start, length)
            )

        steps.append(
            loop(
                full,
                lambda n: bind(
                    n * self.blocking.keys, "key0", lambda s: keys(s, self.blocking.keys)
                ),
                "block",
            )
        )
        if rest:
            steps.append(keys(full * self.blocking.keys, rest))
        if self.blocks > 1:
            steps.append(self._each_panel(first, count, self._finish))
        return seq(steps)

    def _each_panel(
        self,
        first: tirx.Expr,
        count: Index,
        body: Callable[[tirx.Expr, tirx.Expr, int], Stmt],
    ) -> Stmt:
        """`body(i, query, width)` for panel i of the piece, which begins at `query`."""
        full, rest = divmod(self.spec.queries, self.wide)

        def panel(i: tirx.Expr) -> Stmt:
            query = (first + i) * self.wide

            def of(query: tirx.Expr) -> Stmt:
                if not rest:
                    return body(i, query, self.wide)
                if not full:
                    return body(i, query, rest)
                return branch(
                    query < full * self.wide, body(i, query, self.wide), body(i, query, rest)
                )

            return bind(query, "query", of)

        return loop(count, panel, "panel")

    def _whole(self, width: int) -> int:
        """`width` in whole vectors."""
        return -(-width // self.lanes) * self.lanes

    def _pack(self, i: tirx.Expr, query: tirx.Expr, width: int) -> Stmt:
        """A panel of queries as [d][query], scaled; lanes beyond `width` are 0."""
        size, wide = self.spec.head_size, self._whole(width)
        row, column = self.views.q.stride(2), self.views.q.stride(3)
        begin = i * (size * self.wide)

        def move(d: tirx.Expr) -> Stmt:
            steps = []
            for r in range(wide):
                value = number(0.0, "float32")
                if r < width:
                    value = self.q.load(self.q0 + (query + r) * row + d * column)
                    value = value * number(self.spec.scale, "float32")
                steps.append(self.packed.store(begin + d * wide + r, value))
            return seq(steps)

        return loop(size, move, "d")

    def _block(self, i: tirx.Expr, query: tirx.Expr, width: int, key0: Index, length: int) -> Stmt:
        """One panel of queries against one block of keys."""
        wide = self._whole(width)
        seen: Index = length
        if self.scores.causal:
            seen = tirx.max(0, tirx.min(query + width - key0, length))

        def work(seen: Index) -> Stmt:
            return seq(
                [
                    self._scores(i, query, wide, key0, length, seen),
                    self._softmax(i, wide, seen),
                    self._weighted(i, query, width, wide, key0, seen),
                ]
            )

        return bind(seen, "seen", work)

    def _scores(
        self,
        i: tirx.Expr,
        query: tirx.Expr,
        wide: int,
        key0: Index,
        length: int,
        seen: Index,
    ) -> Stmt:
        size = self.spec.head_size
        stride = self.views.k.stride(3)
        b = Panel(self.packed, i * (size * self.wide), wide, wide, packed=True)

        def at(start: tirx.Expr, height: int) -> Stmt:
            def store(r: int, column: int, n: int, value: tirx.Expr) -> Stmt:
                value = self.scores(
                    value, (self.image, self.head), query + column, key0 + start + r, n
                )
                return self.s.store((start + r) * wide + column, value, n)

            rows = [self.k0 + (key0 + start + r) * stride for r in range(height)]
            return tile(rows, self.k, b, Reduction(1, size), self.lanes, store)

        steps, done = [], 0
        for count, height in heights(length, self.rows):
            here = done

            def row(t: tirx.Expr, height: int = height, here: int = here) -> Stmt:
                return bind(t * height + here, "key", lambda start: at(start, height))

            if isinstance(seen, int):
                tiles: Index = count
            else:
                left = tirx.floordiv(tirx.max(0, seen - here) + (height - 1), height)
                tiles = tirx.min(left, count)
            steps.append(loop(tiles, row, "tile"))
            done += count * height
        return seq(steps)

    def _softmax(self, i: tirx.Expr, wide: int, seen: Index) -> Stmt:
        """Scores to powers; `factor` is what multiplies what came before, or the last result."""
        spans = pieces(wide, self.lanes)
        inner, made_inner = local(CHAINS * wide, "float32", "inner")
        shift, made_shift = local(wide, "float32", "shift")
        places = [(c, at, n) for c in range(CHAINS) for at, n in spans]
        steps = [made_inner, made_shift]
        low = number(-math.inf, "float32", self.lanes)
        steps += [inner.store(c * wide + at, low, n) for c, at, n in places]

        def look(c: int, key: Index) -> Stmt:
            return seq(
                inner.store(
                    c * wide + at,
                    tirx.max(self.s.load(key * wide + at, n), inner.load(c * wide + at, n)),
                    n,
                )
                for at, n in spans
            )

        whole = seen // CHAINS if isinstance(seen, int) else tirx.floordiv(seen, CHAINS)
        rest = seen - whole * CHAINS
        steps.append(
            loop(whole, lambda g: seq(look(c, g * CHAINS + c) for c in range(CHAINS)), "group")
        )
        steps.append(loop(rest, lambda c: look(0, whole * CHAINS + c), "key"))
        for at, n in spans:
            values = [inner.load(c * wide + at, n) for c in range(CHAINS)]
            top = values[0]
            for value in values[1:]:
                top = tirx.max(top, value)
            steps += self._new_top(i, at, n, top, shift)
            steps.append(inner.store(at, number(0.0, "float32", n), n))

        def power(key: tirx.Expr) -> Stmt:
            done = []
            for at, n in spans:
                value = exp_nonpositive(self.s.load(key * wide + at, n) - shift.load(at, n))
                e = tirx.Var("e", value.ty)
                done += [
                    tirx.Bind(e, value),
                    self.s.store(key * wide + at, e, n),
                    inner.store(at, inner.load(at, n) + e, n),
                ]
            return seq(done)

        steps.append(loop(seen, power, "key"))
        for at, n in spans:
            total = inner.load(at, n)
            if self.blocks == 1:
                steps.append(self.factor.store(at, self._inverse(total, n), n))
            else:
                here = i * self.wide + at
                old = self.total.load(here, n) * self.factor.load(at, n)
                steps.append(self.total.store(here, old + total, n))
        return seq(steps)

    def _new_top(self, i: tirx.Expr, at: int, n: int, top: tirx.Expr, shift: Flat) -> list[Stmt]:
        if self.blocks == 1:
            return [shift.store(at, top, n)]
        here = i * self.wide + at
        low, zero = (number(value, "float32", n) for value in (-math.inf, 0.0))
        new = tirx.Var("top", top.ty)
        # Where all keys so far are hidden, -inf - -inf must not spoil what the next block brings.
        safe = tirx.Select(new.equal(low), zero, new)
        return [
            tirx.Bind(new, tirx.max(self.top.load(here, n), top)),
            shift.store(at, safe, n),
            self.factor.store(at, exp_nonpositive(self.top.load(here, n) - shift.load(at, n)), n),
            self.top.store(here, new, n),
        ]

    def _inverse(self, total: tirx.Expr, n: int) -> tirx.Expr:
        """What the weighted values are multiplied by; 0 where a guard replaces NaN."""
        return number(1.0, "float32", n) / total

    def _weighted(
        self,
        i: tirx.Expr,
        query: tirx.Expr,
        width: int,
        wide: int,
        key0: Index,
        seen: Index,
    ) -> Stmt:
        spec = self.spec
        stride = self.views.v.stride(2)
        base = self.v0 + key0 * stride if not _is_zero(key0) else self.v0
        reduction = Reduction(seen, 1, lambda key: key * wide)

        def span(column: Index, columns: int) -> Stmt:
            b = Panel(self.v, base + column, stride, columns, packed=False)

            def at(start: Index, height: int) -> Stmt:
                def store(r: int, c: int, n: int, value: tirx.Expr) -> Stmt:
                    factor = self.factor.splat(start + r, n)
                    if self.blocks == 1:
                        return self._store(query + start + r, column + c, n, value * factor, factor)
                    here = (i * self.wide + start + r) * spec.value_size + column + c
                    old = self.out.load(here, n) * factor
                    return self.out.store(here, old + value, n)

                rows = [start + r for r in range(height)]
                return tile(rows, self.s, b, reduction, self.lanes, store)

            steps, done = [], 0
            for count, height in heights(width, self.out_rows):
                here = done
                steps.append(
                    loop(
                        count,
                        lambda t, height=height, here=here: bind(
                            t * height + here, "row", lambda start: at(start, height)
                        ),
                        "rows",
                    )
                )
                done += count * height
            return seq(steps)

        columns = self.out_vectors * self.lanes
        full, rest = divmod(spec.value_size, columns)
        steps = []
        if full:
            steps.append(
                loop(
                    full,
                    lambda c: bind(c * columns, "column", lambda at: span(at, columns)),
                    "columns",
                )
            )
        if rest:
            steps.append(span(full * columns, rest))
        return seq(steps)

    def _store(
        self, query: Index, column: Index, n: int, value: tirx.Expr, factor: tirx.Expr
    ) -> Stmt:
        if self.spec.guarded:
            # All keys hidden: the sum is NaN, or 0 where there are several blocks.
            some = factor < number(math.inf, "float32", n)
            value = tirx.Select(some, value, number(0.0, "float32", n))
        return self.y.store(self.y0 + query * self.views.y.stride(2) + column, value, n)

    def _finish(self, i: tirx.Expr, query: tirx.Expr, width: int) -> Stmt:
        size = self.spec.value_size

        def row(r: tirx.Expr) -> Stmt:
            total = self.total.load(i * self.wide + r)
            inverse, made = local(1, "float32", "inverse")

            def part(column: Index, n: int) -> Stmt:
                value = self.out.load((i * self.wide + r) * size + column, n)
                factor = inverse.splat(0, n)
                return self._store(query + r, column, n, value * factor, factor)

            full, rest = divmod(size, self.lanes)
            steps = [made, inverse.store(0, self._inverse(total, 1))]
            if full:
                steps.append(loop(full, lambda c: part(c * self.lanes, self.lanes), "column"))
            steps += [part(full * self.lanes + at, n) for at, n in pieces(rest, self.lanes)]
            return seq(steps)

        return loop(width, row, "row")


def _is_zero(value: Index) -> bool:
    return isinstance(value, int) and value == 0


def _bind_each(
    values: list[Index], names: tuple[str, ...], body: Callable[[list[tirx.Expr]], Stmt]
) -> Stmt:
    """`body` with every value computed once, under these names."""

    def rest(done: list[tirx.Expr]) -> Stmt:
        if len(done) == len(values):
            return body(done)
        return bind(values[len(done)], names[len(done)], lambda bound: rest([*done, bound]))

    return rest([])


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: AttentionSpec = call.spec
    kernel = Kernel(call.name)
    inputs: list = []
    flats: dict[int, Flat] = {}
    for role in ("q", "k", "v"):
        place = call.roles[role]
        if place not in flats:
            flats[place] = kernel.param(call.arguments[place].shape, "float32", role)
            inputs.append(Given(role))
    scores = Scores(call, kernel, lanes_of(target))
    y = kernel.param(call.result.shape, "float32", "y")
    nest = _Nest(spec, default_blocking(spec, target), target, scores)
    q, k, v = (flats[call.roles[role]] for role in ("q", "k", "v"))
    made = kernel.finish(nest.body(q, k, v, y))
    final = Launch(made, (*inputs, *scores.inputs), call.result.shape, "float32")
    return Lowered((*scores.launches, final))


ATTENTION = Rule("attention", AttentionSpec, _refuses, _lower)
