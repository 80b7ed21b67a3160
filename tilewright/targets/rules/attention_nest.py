"""The loop nest of an attention: what `targets/rules/attention.py` describes, written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import AttentionSpec
from tilewright.ops.spec import Dim
from tilewright.targets.rules.attention_scores import Scores
from tilewright.targets.rules.attention_views import views_of
from tilewright.targets.rules.register_tile import (
    Panel,
    Reduction,
    heights,
    lanes_of,
    most_rows,
    tile,
)
from tilewright.targets.rules.row import CHAINS
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    bind,
    bind_all,
    branch,
    ceil_div,
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


@dataclass(frozen=True)
class Blocking:
    """The knobs: `vectors` of queries a panel, `panels` a piece, `keys` at a time."""

    vectors: int
    panels: int
    keys: int


class Nest:
    """The loop nest of one group."""

    def __init__(
        self,
        spec: AttentionSpec,
        blocking: Blocking,
        target: Target,
        scores: Scores,
        size: Callable[[Dim], Index],
    ) -> None:
        """`size` is what a size is called in the kernel."""
        self.spec, self.blocking, self.scores = spec, blocking, scores
        self.views = views_of(spec, size)
        self.batch, self.queries, self.keys = map(size, (spec.batch, spec.queries, spec.keys))
        self.lanes, self.registers = lanes_of(target), target.vector_registers
        self.wide = blocking.vectors * self.lanes
        self.panels = ceil_div(self.queries, self.wide)
        # With one block of keys there is nothing to carry from one to the next.
        known = isinstance(self.queries, int) and isinstance(self.keys, int)
        self.carries = not (known and self.keys <= blocking.keys)
        self.rows = most_rows(target, blocking.vectors)
        self.out_vectors = max(1, min(2, -(-spec.value_size // self.lanes)))
        self.out_rows = most_rows(target, self.out_vectors)

    def body(self, q: Flat, k: Flat, v: Flat, y: Flat) -> Stmt:
        """The whole nest; q, k and v may be the same tensor."""
        spec, views = self.spec, self.views
        self.q, self.k, self.v, self.y = q, k, v, y
        stretches = ceil_div(self.panels, self.blocking.panels)

        def piece(p: tirx.Expr) -> Stmt:
            head = tirx.floordiv(p, stretches)
            b, h = tirx.floordiv(head, spec.heads), tirx.floormod(head, spec.heads)
            first = tirx.floormod(p, stretches) * self.blocking.panels
            starts = [
                view.at(view.offset) + view.place(0, b) + view.place(1, h)
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
                        lambda f: bind_all(
                            starts, ("q0", "k0", "v0", "y0"), lambda at: self._piece(b, h, f, at)
                        ),
                    ),
                ),
            )

        return loop(self.batch * spec.heads * stretches, piece, "piece", parallel=True)

    def _piece(self, b: tirx.Expr, h: tirx.Expr, first: tirx.Expr, at: list[tirx.Expr]) -> Stmt:
        spec, most = self.spec, self.blocking.panels
        self.q0, self.k0, self.v0, self.y0 = at
        self.image, self.head = b, h
        even = isinstance(self.panels, int) and self.panels % most == 0
        count = most if even else tirx.min(self.panels - first, most)
        queries = most * self.wide
        self.packed, made_q = workspace(queries * spec.head_size, "float32", "packed")
        self.s, made_s = workspace(self.blocking.keys * self.wide, "float32", "scores")
        # Per query of one panel: the maximum, the factor of what came before, the sum.
        steps = [made_q, made_s]
        self.out = None
        self.factor, made = workspace(self.wide, "float32", "factor")
        steps.append(made)
        if self.carries:
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
        if isinstance(self.keys, int):
            full, rest = divmod(self.keys, self.blocking.keys)
        else:
            full, rest = ceil_div(self.keys, self.blocking.keys), 0

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
        if self.carries:
            steps.append(self._each_panel(first, count, self._finish))
        return seq(steps)

    def _each_panel(
        self,
        first: tirx.Expr,
        count: Index,
        body: Callable[[tirx.Expr, tirx.Expr, int], Stmt],
    ) -> Stmt:
        """`body(i, query, width)` for panel i of the piece, which begins at `query`.

        Of an open number of queries, the last panel has queries beyond the last.
        """

        def panel(i: tirx.Expr) -> Stmt:
            query = (first + i) * self.wide
            if not isinstance(self.queries, int):
                return bind(query, "query", lambda query: body(i, query, self.wide))
            full, rest = divmod(self.queries, self.wide)

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
                    place = _before(query + r, self.queries) * row
                    value = self.q.load(self.q0 + place + d * column)
                    value = value * number(self.spec.scale, "float32")
                steps.append(self.packed.store(begin + d * wide + r, value))
            return seq(steps)

        return loop(size, move, "d")

    def _block(self, i: tirx.Expr, query: tirx.Expr, width: int, key0: Index, length: int) -> Stmt:
        """One panel of queries against one block of keys."""
        wide = self._whole(width)
        seen: Index = length
        if not isinstance(self.keys, int):
            seen = tirx.min(self.keys - key0, length)
        if self.scores.causal:
            seen = tirx.max(0, tirx.min(query + width - key0, seen))

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
            def key(r: int) -> tirx.Expr:
                # Those beyond the last are computed, and not looked at.
                return _before(key0 + start + r, self.keys)

            def store(r: int, column: int, n: int, value: tirx.Expr) -> Stmt:
                value = self.scores(value, (self.image, self.head), query + column, key(r), n)
                return self.s.store((start + r) * wide + column, value, n)

            rows = [self.k0 + key(r) * stride for r in range(height)]
            how = {"registers": self.registers}
            return tile(rows, self.k, b, Reduction(1, size), self.lanes, store, **how)

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
            if not self.carries:
                steps.append(self.factor.store(at, self._inverse(total, n), n))
            else:
                here = i * self.wide + at
                old = self.total.load(here, n) * self.factor.load(at, n)
                steps.append(self.total.store(here, old + total, n))
        return seq(steps)

    def _new_top(self, i: tirx.Expr, at: int, n: int, top: tirx.Expr, shift: Flat) -> list[Stmt]:
        if not self.carries:
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
                    if not self.carries:
                        return self._store(query + start + r, column + c, n, value * factor, factor)
                    here = (i * self.wide + start + r) * spec.value_size + column + c
                    old = self.out.load(here, n) * factor
                    return self.out.store(here, old + value, n)

                rows = [start + r for r in range(height)]
                how = {"registers": self.registers}
                return tile(rows, self.s, b, reduction, self.lanes, store, **how)

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

        if not isinstance(self.queries, int):
            return loop(tirx.min(width, self.queries - query), row, "row")
        return loop(width, row, "row")


def _before(at: tirx.Expr, end: Index) -> tirx.Expr:
    """`at`, or where `end` is open, the last place before it."""
    return at if isinstance(end, int) else tirx.min(at, end - 1)


def _is_zero(value: Index) -> bool:
    return isinstance(value, int) and value == 0
