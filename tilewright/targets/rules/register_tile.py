"""The register tile: a few rows by a few vectors of results, held in registers while k runs.

    acc[rows, columns] = 0
    for j in range(runs): for k in range(length):
        acc[r, :] += a[r, j, k] * b[j, k, :]
    store(acc)

Every convolution and matrix product ends here; they differ in where a row of `a` begins and in
what the store does. Source of the shape: Goto and van de Geijn 2008, "Anatomy of
High-Performance Matrix Multiplication", section 6; the sizes follow from the register file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm import tirx
from tvm.tirx import Stmt

from tilewright.targets.rules.tir import (
    Flat,
    Index,
    bind,
    index,
    local,
    loop,
    number,
    opaque_all,
    pieces,
    seq,
)
from tilewright.targets.target import Target

# Rows that begin a multiple of 4 KB apart share a set of L1, which has 8 ways on most processors:
# with more rows than that each waits for L2 at every element.
SET_SPAN = 4096
MOST_ROWS = 8
# Lanes of the vectors of which NEON multiplies by one element (fmla v0.4s, v1.4s, v2.s[3]), so that
# four steps take one load of `a` for each row; without, each step takes one.
BY_ELEMENT = 4
# float32 numbers of a cache line.
LINE_FLOATS = 16
# Terms of a sum from which on it is one of several that are added up: rounding errors grow with the
# sums they are made at.
LONGEST_SUM = 512
# Streams from memory that a core reads side by side: of one, the lines that it may wait for at a
# time are the limit. What several are worth: `benchmarks.kinds`, one row by weights from memory.
STREAMS = 4
# How far ahead a tile fetches of each of them: what lies much further is gone again when it is
# read, and of a line's last rows what is fetched is another's.
LINES_AHEAD = 8


@dataclass(frozen=True)
class Reduction:
    """What is summed over: `runs` stretches of `length` elements that lie side by side.

    `run_offset(j)` is where stretch j begins, seen from the start of a row of `a`.
    """

    runs: Index
    length: Index
    run_offset: Callable[[tirx.Expr], Index] = lambda j: 0


@dataclass(frozen=True)
class Panel:
    """`width` columns of b that are computed together, from element `base` on.

    Packed: `stride` elements (whole vectors) per k, lanes of the last vector that are beyond
    `width` are computed and not stored. Not packed: `stride` is the length of a row of b.
    Where `lines` is not 0, each cache line of columns runs down all `lines` k by itself; `begins`
    is where each of them does, once that is computed.
    """

    b: Flat
    base: Index
    stride: Index
    width: int
    packed: bool
    lines: int = 0
    begins: tuple[Index, ...] = ()

    @property
    def line_begins(self) -> list[Index]:
        """Where each cache line of columns begins."""
        columns = range(0, self.stride, LINE_FLOATS) if self.lines else ()
        return [self.base + column * self.lines for column in columns]

    @property
    def starts(self) -> int:
        """At how many places of k a tile goes on in turn, so that it reads STREAMS streams."""
        most = STREAMS * LINE_FLOATS // max(self.stride, LINE_FLOATS) if self.lines else 1
        return next(n for n in (STREAMS, 2, 1) if n <= max(1, most) and self.lines % n == 0)

    def place(self, k: Index, at: int) -> Index:
        """Where column `at` of row k is."""
        if not self.lines:
            return self.base + k * self.stride + at
        line, inside = divmod(at, LINE_FLOATS)
        return self.begins[line] + k * LINE_FLOATS + inside


@dataclass(frozen=True)
class Stream:
    """What a tile fetches for a later one, so that nobody waits for it then.

    From element `base` of `source` on, `step` elements for each k; run j of the reduction begins
    `run_offset(j)` further on.
    """

    source: Flat
    base: Index
    step: int
    run_offset: Callable[[tirx.Expr], Index] = lambda j: 0


def lanes_of(target: Target, dtype: str = "float32") -> int:
    """How many numbers of `dtype` one vector register of `target` holds."""
    return target.vector_bits // {"float32": 32, "float64": 64}[dtype]


def most_rows(target: Target, vectors: int) -> int:
    """Rows of the largest tile with `vectors` vectors of columns.

    The tile, one vector of each column and one broadcast element fill the register file.
    """
    return max(1, min(MOST_ROWS, (target.vector_registers - vectors - 1) // vectors))


def heights(rows: int, most: int) -> tuple[tuple[int, int], ...]:
    """`rows` as tiles of nearly equal height: (how many, how high), higher ones first.

    49 rows in tiles of at most 6 are four of 6 and five of 5: no tail.
    """
    tiles = -(-rows // most)
    low, higher = divmod(rows, tiles)
    found = ((higher, low + 1), (tiles - higher, low))
    return tuple((count, height) for count, height in found if count)


def tile(
    rows: list[Index],
    a: Flat,
    panel: Panel,
    reduction: Reduction,
    lanes: int,
    store: Callable[[int, int, int, tirx.Expr], Stmt],
    dtype: str = "float32",
    begun: Callable[[int, int, int], tirx.Expr] | None = None,
    streams: Sequence[Stream] = (),
    registers: int = 0,
) -> Stmt:
    """Compute one tile. `rows[r]` is where row r of `a` begins.

    `store(r, column, lanes, value)` is the statement that puts `value` in its place. The sums start
    from `begun(r, column, lanes)`, from 0 without it. Where `registers` have room for a vector of
    each row of `a` beside sums and columns, `a` is read in vectors.
    """
    steps = _Steps(a, panel, reduction, lanes, streams)
    width = steps.width
    places = [(r, r * width + at, at, n) for r in range(len(rows)) for at, n in steps.vectors]
    sums, made = local(len(rows) * width, dtype, "acc")
    done = [made]
    for r, here, at, n in places:
        done.append(sums.store(here, begun(r, at, n) if begun else number(0.0, dtype, n), n))

    length, vectors = reduction.length, len(steps.vectors)
    # Several rows read each column of b, one row drops it at once.
    columns = 2 * vectors if len(rows) > 1 else 2
    fits = len(rows) * (vectors + 1) + columns <= registers
    vectors_of_a = isinstance(length, int) and length >= lanes
    by_element = lanes == BY_ELEMENT and dtype == "float32" and fits and vectors_of_a
    along = _Steps.by_element if by_element else _Steps.by_splat
    acc = sums
    if steps.part is not None:
        acc, made = local(len(rows) * width, dtype, "part")
        done.append(made)

    def added(terms: Stmt) -> Stmt:
        """`terms` as a sum of its own, and then added to all."""
        start = [acc.store(here, number(0.0, dtype, n), n) for _, here, _, n in places]
        total = [
            sums.store(here, sums.load(here, n) + acc.load(here, n), n) for _, here, _, n in places
        ]
        return seq([*start, terms, *total])

    def body(begins: list[tirx.Expr]) -> Stmt:
        here = replace(steps, panel=replace(panel, begins=tuple(begins[len(rows) :])))

        def take(j: tirx.Expr, at: tirx.Expr, first: Index, count: Index) -> Stmt:
            return along(here, acc, begins[: len(rows)], j, at, first, count)

        return _stretches(steps, take, added)

    done.append(opaque_all([*rows, *panel.line_begins], "begin", body))
    for r in range(len(rows)):
        for at, n in pieces(panel.width, lanes):
            done.append(store(r, at, n, sums.load(r * width + at, n)))
    return seq(done)


# The products of stretch j, which is `at` from where a row begins: `count` turns from `first` on.
_Take = Callable[[tirx.Expr, tirx.Expr, Index, Index], Stmt]


def _stretches(steps: _Steps, take: _Take, added: Callable[[Stmt], Stmt]) -> Stmt:
    """All stretches of the reduction; where they are long, in parts that `added` adds up."""
    reduction, part = steps.reduction, steps.part

    def whole(j: tirx.Expr) -> Stmt:
        return bind(reduction.run_offset(j), "run", lambda at: take(j, at, 0, steps.turns))

    if part is None:
        return loop(reduction.runs, whole, "j")
    if (together := steps.runs_of_a_part) > 1:
        several = lambda p: loop(together, lambda j: whole(p * together + j), "j")  # noqa: E731
        return loop(reduction.runs // together, lambda p: added(several(p)), "part")
    full, rest = divmod(steps.turns, part)

    def parts(j: tirx.Expr, at: tirx.Expr) -> Stmt:
        done = [loop(full, lambda p: added(take(j, at, p * part, part)), "part")]
        return seq([*done, *([added(take(j, at, full * part, rest))] if rest else [])])

    def run(j: tirx.Expr) -> Stmt:
        return bind(reduction.run_offset(j), "run", lambda at: parts(j, at))

    return loop(reduction.runs, run, "j")


# An element of a row of `a`, in as many lanes as are asked for.
_Factor = Callable[[int], tirx.Expr]


@dataclass(frozen=True)
class _Steps:
    """What a tile adds to its sums `acc` along one stretch of the reduction.

    `begins` says where each row of `a` begins; stretch `j` is `offset` further on.
    """

    a: Flat
    panel: Panel
    reduction: Reduction
    lanes: int
    streams: Sequence[Stream]

    @property
    def vectors(self) -> list[tuple[int, int]]:
        """The columns as vectors: (where each begins, its lanes)."""
        if not self.panel.packed:
            return pieces(self.panel.width, self.lanes)
        return [(start, self.lanes) for start in range(0, self.panel.width, self.lanes)]

    @property
    def width(self) -> int:
        """Columns that are computed."""
        return sum(size for _, size in self.vectors)

    @property
    def turns(self) -> Index:
        """Steps of the loop along a stretch, each of which takes an element of `starts` places."""
        starts = self.panel.starts
        return self.reduction.length // starts if starts > 1 else self.reduction.length

    @property
    def part(self) -> int | None:
        """Of how many turns of a stretch a sum is added up by itself; None for one sum of all."""
        runs, length = self.reduction.runs, self.reduction.length
        if not (isinstance(runs, int) and isinstance(length, int)) or runs * length <= LONGEST_SUM:
            return None
        fewest = -(-length // LONGEST_SUM)
        even = (n for n in range(fewest, 2 * fewest + 1) if self.turns % (n * BY_ELEMENT) == 0)
        turns = -(-self.turns // next(even, fewest))
        return -(-turns // BY_ELEMENT) * BY_ELEMENT

    @property
    def runs_of_a_part(self) -> int:
        """How many short stretches, all of each, are added up by themselves."""
        most = max(1, LONGEST_SUM // self.reduction.length)
        return max(n for n in range(1, most + 1) if self.reduction.runs % n == 0)

    def by_splat(
        self,
        acc: Flat,
        begins: list[tirx.Expr],
        j: tirx.Expr,
        offset: tirx.Expr,
        first: Index,
        count: Index,
    ) -> Stmt:
        """Each step loads its element of every row into all lanes of a vector.

        `count` turns from `first` on.
        """
        starts, turns = self.panel.starts, self.turns

        def places(k: tirx.Expr) -> Stmt:
            each = [first + k + start * turns for start in range(starts)]
            return seq([self._splat(acc, begins, j, offset, turn) for turn in each])

        return loop(count, places, "k")

    def _splat(
        self, acc: Flat, begins: list[tirx.Expr], j: tirx.Expr, offset: tirx.Expr, k: Index
    ) -> Stmt:
        """The step of one k, whose element of every row is loaded into all lanes."""
        at = offset + k
        factors = [lambda n, begin=begin: self.a.splat(begin + at, n) for begin in begins]
        return self._step(acc, j, k, factors)

    def by_element(
        self,
        acc: Flat,
        begins: list[tirx.Expr],
        j: tirx.Expr,
        offset: tirx.Expr,
        first: Index,
        count: int,
    ) -> Stmt:
        """A vector of every row is loaded, and as many steps taken as it has elements.

        The last few, of which there is no vector, are taken one by one.
        """

        def steps(k: tirx.Expr) -> Stmt:
            whole = [self.a.load(begin + offset + k, self.lanes) for begin in begins]

            def factors(i: int) -> list[_Factor]:
                parts = [tirx.Shuffle([vector], [tirx.IntImm("int32", i)]) for vector in whole]
                return [lambda n, part=part: tirx.Broadcast(part, n) for part in parts]

            return seq([self._step(acc, j, k + i, factors(i)) for i in range(self.lanes)])

        full = count // self.lanes
        done = [loop(full, lambda k: steps(first + k * self.lanes), "k")]
        for k in range(full * self.lanes, count):
            done.append(self._splat(acc, begins, j, offset, index(first + k)))
        return seq(done)

    def _step(self, acc: Flat, j: tirx.Expr, k: tirx.Expr, factors: list[_Factor]) -> Stmt:
        """The products of one k."""
        place = j * self.reduction.length + k
        columns = [self.panel.b.load(self.panel.place(place, at), n) for at, n in self.vectors]
        done = [
            stream.source.prefetch(stream.base + stream.run_offset(j) + k * stream.step + at)
            for stream in self.streams
            for at in range(0, stream.step, LINE_FLOATS)
        ]
        # A core takes more from memory when it reads several streams at once.
        for begin in self.panel.begins:
            done.append(self.panel.b.prefetch(begin + (place + LINES_AHEAD) * LINE_FLOATS))
        for r, factor in enumerate(factors):
            for (at, n), column in zip(self.vectors, columns, strict=True):
                here = r * self.width + at
                done.append(acc.store(here, acc.load(here, n) + factor(n) * column, n))
        return seq(done)
