"""Recurrent layers: one kernel over the whole sequence.

    for directions, for blocks of rows of the batch, for t in the sequence, for vectors of units:
        sums[gate, row] = x[t, row, gate] + sum over k of h[row, k] * r[k, gate]
        c, h = the cell's function of the sums and of c

x @ W for all steps at once is a matrix product of its own, before. The state stays in the cache of
the core that has the rows; where there is one block of rows alone, threads share each step. r is
read once a step and block, in several streams from end to end: it lies in the order in which it is
needed (`order`), since a step is as fast as r comes from the cache. A row whose sequence is over
keeps its state and gives zeros.
Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html and onnx__RNN.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx import PrimFunc, Stmt

from tilewright.ops import Step
from tilewright.ops.recurrent import RecurrentSpec
from tilewright.targets.rules.epilogue import ELEMENTWISE
from tilewright.targets.rules.register_tile import STREAMS
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    Kernel,
    bind,
    branch,
    copy,
    index,
    local,
    loop,
    number,
    pieces,
    seq,
    workspace,
    worth_threads,
)
from tilewright.targets.rules.vector_math import like

# Sums of a tile: with fewer, each waits for its last addition; with more they leave the registers.
FEWEST_SUMS, MOST_SUMS = 8, 12
MOST_ROWS = 3
# Rows whose products take as long as reading r does.
WORTH_OF_R = 8 / 3
# Multiply-adds of a row of the batch that pay for waking another thread.
FEWEST_PRODUCTS = 1 << 16
# Multiply-adds of one step from which on threads share it. Each then reads a part of r, the same at
# every step, which stays in its cache.
FEWEST_OF_STEP = 1 << 16

ACTIVATIONS: dict[str, Callable[..., tirx.Expr]] = {
    **ELEMENTWISE,
    "affine": lambda x, alpha, beta: x * like(x, alpha) + like(x, beta),
    "scaled_tanh": lambda x, alpha, beta: ELEMENTWISE["tanh"](x * like(x, beta)) * like(x, alpha),
}


def parameters(spec: RecurrentSpec) -> list[str]:
    """Names of what the kernel takes, in order; the results come after them."""
    found = ["x", "r"]
    if spec.linear_before_reset:
        found.append("rb")
    if spec.peephole:
        found.append("p")
    found.append("h0")
    if spec.cell == "LSTM":
        found.append("c0")
    if spec.lengths:
        found.append("lengths")
    return found


def results(spec: RecurrentSpec) -> list[tuple[str, tuple[int | str, ...]]]:
    """Names and shapes of what it gives: every h, the last h, the last c."""
    last = (len(spec.directions), spec.batch, spec.hidden)
    found = [("y", (spec.sequence, *last)), ("yh", last)]
    return [*found, ("yc", last)] if spec.cell == "LSTM" else found


def order(spec: RecurrentSpec, lanes: int) -> np.ndarray:
    """Where in ONNX's R of a direction, [gates * hidden, hidden], the numbers of r lie.

    Tile after tile of the units; in each, what one k is multiplied with lies together.
    """
    n = spec.hidden
    found = []
    for phase in phases(spec):
        for first, size in _tiles(spec, len(phase), lanes):
            rows = np.add.outer(np.array(phase) * n, np.arange(first, first + size))
            found.append((rows * n + np.arange(n)[:, None, None]).ravel())
    return np.concatenate(found)


def phases(spec: RecurrentSpec) -> tuple[tuple[int, ...], ...]:
    """The gates of each product of a step: a GRU that resets h before has a second one."""
    if spec.cell == "GRU" and not spec.linear_before_reset:
        return (0, 1), (2,)
    return (tuple(range(spec.gates)),)


def kernel(name: str, spec: RecurrentSpec, lanes: int) -> PrimFunc:
    """The loop nest, with vectors of `lanes` numbers."""
    made = Kernel(name)
    n, g, count = spec.hidden, spec.gates, len(spec.directions)
    shapes: dict[str, tuple[int | str, ...]] = {
        "x": (spec.sequence, spec.batch, count * g * n),
        "r": (count, g * n * n),
        "rb": (count, n),
        "p": (count, 3 * n),
        "h0": (count, spec.batch, n),
        "c0": (count, spec.batch, n),
        "lengths": (spec.batch,),
    }
    flats = {
        key: made.param(shapes[key], "int32" if key == "lengths" else "float32", key)
        for key in parameters(spec)
    }
    flats |= {key: made.param(shape, "float32", key) for key, shape in results(spec)}
    batch, steps = made.size(spec.batch), made.size(spec.sequence)
    rows = rows_of(spec)
    blocks = -(-spec.batch // rows) if isinstance(spec.batch, int) else batch

    def layer(*, shared: bool, parallel: bool) -> Stmt:
        """All blocks: in parallel or not, and with steps that threads share or not."""
        nest = _Nest(spec, flats, rows, lanes, batch, shared)

        def block(b: tirx.Expr) -> Stmt:
            d, place = (
                (0, b) if count == 1 else (tirx.floordiv(b, blocks), tirx.floormod(b, blocks))
            )
            # The last block begins early enough to be whole: what two blocks compute is the same.
            first = place if rows == 1 else tirx.min(place * rows, batch - rows)
            return bind(d, "d", lambda d: bind(first, "first", lambda at: nest.whole(d, at, steps)))

        return loop(blocks * count, block, "block", parallel=parallel)

    work = steps * (g * n * n) if isinstance(steps, int) else steps
    many = worth_threads(work, FEWEST_PRODUCTS)
    pays = worth_threads(g * n * n, FEWEST_OF_STEP)
    if isinstance(blocks, int) and blocks * count == 1:
        body = layer(shared=pays, parallel=False)
    elif not isinstance(blocks, int) and count == 1 and pays:
        body = branch(
            blocks <= 1, layer(shared=True, parallel=False), layer(shared=False, parallel=many)
        )
    else:
        body = layer(shared=False, parallel=many)
    return made.finish(body)


def rows_of(spec: RecurrentSpec) -> int:
    """Rows of the batch that are computed together."""
    if not isinstance(spec.batch, int):
        return 1
    most = min(spec.batch, MOST_ROWS)
    # A last block that is not full computes some rows again; one of few rows waits for r.
    return min(range(most, 0, -1), key=lambda rows: -(-spec.batch // rows) * max(rows, WORTH_OF_R))


def _tiles(spec: RecurrentSpec, gates: int, lanes: int) -> list[tuple[int, int]]:
    """Where tiles of hidden units begin, and how many they have; the first ones are alike."""
    n, sums = spec.hidden, gates * rows_of(spec)
    whole = n // lanes
    most = max(1, min(MOST_SUMS // sums, whole))

    def cost(vectors: int) -> int:
        full, rest = divmod(whole, vectors)
        return full * max(vectors * sums, FEWEST_SUMS) + rest * max(sums, FEWEST_SUMS)

    wide = lanes * min(range(1, most + 1), key=lambda vectors: (cost(vectors), -vectors))
    full = n // wide
    tiles = [(i * wide, wide) for i in range(full)]
    return tiles + [(full * wide + at, size) for at, size in pieces(n - full * wide, lanes)]


@dataclass(frozen=True)
class _Nest:
    spec: RecurrentSpec
    flats: dict[str, Flat]
    rows: int
    lanes: int
    batch: Index
    shared: bool

    def whole(self, d: Index, first: tirx.Expr, steps: Index) -> Stmt:
        """The sequence in direction `d`, for `rows` rows from `first` on."""
        n = self.spec.hidden
        h, made_h = workspace(self.rows * n, "float32", "h")
        new, made_new = workspace(self.rows * n, "float32", "new")
        state, made = {"h": h, "new": new}, [made_h, made_new]
        for key in self._extra():
            state[key], allocated = workspace(self.rows * n, "float32", key)
            made.append(allocated)
        size, own = self.rows * n, (d * self.batch + first) * n
        starts = [copy(h, 0, self.flats["h0"], own, size, self.lanes)]
        ends = [copy(self.flats["yh"], own, h, 0, size, self.lanes)]
        if "c" in state:
            starts.append(copy(state["c"], 0, self.flats["c0"], own, size, self.lanes))
            ends.append(copy(self.flats["yc"], own, state["c"], 0, size, self.lanes))

        def step(t: tirx.Expr) -> Stmt:
            at = {
                (False,): t,
                (True,): steps - 1 - t,
                (False, True): t + d * (steps - 1 - 2 * t),
            }[self.spec.directions]
            return bind(at, "at", lambda time: self._step(d, first, time, state))

        return seq([*made, *starts, loop(steps, step, "t"), *ends])

    def _extra(self) -> list[str]:
        """Rows of state beside h: c, or what the gates of a GRU wait with."""
        if self.spec.cell == "LSTM":
            return ["c"]
        return ["z", "rh"] if len(phases(self.spec)) == 2 else []

    def _step(self, d: Index, first: Index, time: tirx.Expr, state: dict[str, Flat]) -> Stmt:
        place = _Step(self, d, first, time, state)
        products = phases(self.spec)
        tiles = (place.reset, place.hidden) if len(products) == 2 else (place.cell,)
        done = [self._units(len(p), tile) for p, tile in zip(products, tiles, strict=True)]
        size = self.rows * self.spec.hidden
        return seq([*done, copy(state["h"], 0, state["new"], 0, size, self.lanes)])

    def _units(self, gates: int, tile: Callable[[Index, int, int], Stmt]) -> Stmt:
        """All hidden units; the tiles that are alike are a loop."""
        tiles = _tiles(self.spec, gates, self.lanes)
        wide = tiles[0][1]
        alike = sum(size == wide for _, size in tiles)
        lanes = min(wide, self.lanes)
        each = lambda i: tile(i * wide, wide // lanes, lanes)  # noqa: E731
        done = [loop(alike, each, "unit", parallel=self.shared)]
        done += [tile(index(at), 1, size) for at, size in tiles[alike:]]
        return seq(done)


@dataclass(frozen=True)
class _Step:
    """One step of a block: tiles of its hidden units."""

    nest: _Nest
    d: Index
    first: Index
    time: tirx.Expr
    state: dict[str, Flat]

    def cell(self, j: Index, vectors: int, lanes: int) -> Stmt:
        """All gates of units `j` ..., and with them their new state."""
        spec, source = self.nest.spec, self.state["h"]
        sums, steps = self._sums(range(spec.gates), source, j, vectors, lanes)
        update = {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[spec.cell]
        for row in range(self.nest.rows):
            for v in range(vectors):
                at = j + v * lanes
                gates = [sums(g, row, v) for g in range(spec.gates)]
                steps.append(update(gates, row, at, lanes))
        return seq(steps)

    def reset(self, j: Index, vectors: int, lanes: int) -> Stmt:
        """A GRU's gates z and r, and r * h, which its third product reads."""
        n, h = self.nest.spec.hidden, self.state["h"]
        sums, steps = self._sums(range(2), h, j, vectors, lanes)
        for row in range(self.nest.rows):
            for v in range(vectors):
                at = row * n + j + v * lanes
                update, reset = (self._activated(g, sums(g, row, v)) for g in range(2))
                steps.append(self.state["z"].store(at, update, lanes))
                steps.append(self.state["rh"].store(at, reset * h.load(at, lanes), lanes))
        return seq(steps)

    def hidden(self, j: Index, vectors: int, lanes: int) -> Stmt:
        """A GRU's third gate, of r * h, and its new h."""
        n = self.nest.spec.hidden
        sums, steps = self._sums([2], self.state["rh"], j, vectors, lanes)
        for row in range(self.nest.rows):
            for v in range(vectors):
                at = j + v * lanes
                z = self.state["z"].load(row * n + at, lanes)
                steps.append(self._blend(z, self._activated(2, sums(2, row, v)), row, at, lanes))
        return seq(steps)

    def _sums(
        self, gates: range | list[int], source: Flat, j: Index, vectors: int, lanes: int
    ) -> tuple[Callable[[int, int, int], tirx.Expr], list[Stmt]]:
        """X + source @ r for `gates`: how to read a sum, and the statements that make it."""
        nest, spec = self.nest, self.nest.spec
        n, rows = spec.hidden, nest.rows
        places = {gate: place for place, gate in enumerate(gates)}
        acc, made = local(len(places) * rows * vectors * lanes, "float32", "sums")
        # Before it lie the gates of the product before, and the tiles before this one.
        start = (self.d * spec.gates + min(gates)) * (n * n) + j * (len(gates) * n)

        def slot(gate: int, row: int, v: int) -> int:
            return ((places[gate] * rows + row) * vectors + v) * lanes

        steps = [made]
        for gate in places:
            for row in range(rows):
                for v in range(vectors):
                    value = self._start(gate, row, j + v * lanes, lanes)
                    steps.append(acc.store(slot(gate, row, v), value, lanes))

        def add(k: tirx.Expr) -> Stmt:
            done = []
            for v in range(vectors):
                for gate in places:
                    place = ((k * len(gates) + places[gate]) * vectors + v) * lanes
                    weight = nest.flats["r"].load(start + place, lanes)
                    for row in range(rows):
                        at, factor = slot(gate, row, v), source.splat(row * n + k, lanes)
                        done.append(acc.store(at, acc.load(at, lanes) + factor * weight, lanes))
            return seq(done)

        # A core takes more of a distant cache when it reads several streams at once.
        starts = next(m for m in (STREAMS, 2, 1) if n % m == 0)
        each = n // starts
        together = lambda k: seq([add(k + m * each) for m in range(starts)])  # noqa: E731
        steps.append(loop(each, together, "k"))
        return lambda gate, row, v: acc.load(slot(gate, row, v), lanes), steps

    def _start(self, gate: int, row: int, j: Index, lanes: int) -> tirx.Expr:
        """What a sum begins with: what came in, or a GRU's bias that is reset with the product."""
        if gate == 2 and self.nest.spec.linear_before_reset:
            return self.nest.flats["rb"].load(self.d * self.nest.spec.hidden + j, lanes)
        return self._input(gate, row, j, lanes)

    def _input(self, gate: int, row: int, j: Index, lanes: int) -> tirx.Expr:
        n, wide = self.nest.spec.hidden, self.nest.spec.gates * self.nest.spec.hidden
        line = (self.time * self.nest.batch + self.first + row) * len(self.nest.spec.directions)
        return self.nest.flats["x"].load((line + self.d) * wide + gate * n + j, lanes)

    def _activated(self, gate: int, value: tirx.Expr, step: int | None = None) -> tirx.Expr:
        """A gate's activation; `step` is its number where that is not the gate's."""
        spec = self.nest.spec
        if spec.clip is not None:
            value = tirx.max(like(value, -spec.clip), tirx.min(like(value, spec.clip), value))
        return _apply(spec.activations[gate if step is None else step], value)

    def _peephole(self, gate: int, j: Index, lanes: int, c: tirx.Expr) -> tirx.Expr | None:
        if not self.nest.spec.peephole:
            return None
        own = self.d * 3 + gate
        return self.nest.flats["p"].load(own * self.nest.spec.hidden + j, lanes) * c

    def _lstm(self, gates: list[tirx.Expr], row: int, j: Index, lanes: int) -> Stmt:
        """Gates i, o, f, c; activations f of i, o and forget, g of the cell, h of the result."""
        spec = self.nest.spec
        at = row * spec.hidden + j
        old = self.state["c"].load(at, lanes)

        def gate(number_of: int, c: tirx.Expr) -> tirx.Expr:
            value, seen = gates[number_of], self._peephole(number_of, j, lanes, c)
            return self._activated(number_of, value if seen is None else value + seen, 0)

        entering = gate(0, old)
        forget = like(entering, 1.0) - entering if spec.input_forget else gate(2, old)
        made = self._activated(3, gates[3], 1)
        c = tirx.Var("c", old.ty)
        output = gate(1, c) * _apply(spec.activations[2], c)
        done = [
            self._keep("new", output, self.state["h"].load(at, lanes), row, at, j, lanes),
            self.state["c"].store(at, self._alive(row, c, old, lanes), lanes),
        ]
        return seq([tirx.Bind(c, forget * old + entering * made), *done])

    def _gru(self, gates: list[tirx.Expr], row: int, j: Index, lanes: int) -> Stmt:
        """Gates z, r, h with the reset after the product."""
        z, reset = self._activated(0, gates[0]), self._activated(1, gates[1])
        hidden = self._activated(2, self._input(2, row, j, lanes) + reset * gates[2])
        return self._blend(z, hidden, row, j, lanes)

    def _rnn(self, gates: list[tirx.Expr], row: int, j: Index, lanes: int) -> Stmt:
        at = row * self.nest.spec.hidden + j
        old = self.state["h"].load(at, lanes)
        return self._keep("new", self._activated(0, gates[0]), old, row, at, j, lanes)

    def _blend(self, z: tirx.Expr, hidden: tirx.Expr, row: int, j: Index, lanes: int) -> Stmt:
        """A GRU's h = (1 - z) * hidden + z * h."""
        at = row * self.nest.spec.hidden + j
        old = self.state["h"].load(at, lanes)
        value = (like(z, 1.0) - z) * hidden + z * old
        return self._keep("new", value, old, row, at, j, lanes)

    def _keep(
        self,
        key: str,
        value: tirx.Expr,
        old: tirx.Expr,
        row: int,
        at: Index,
        j: Index,
        lanes: int,
    ) -> Stmt:
        """The new h, in the state and in y."""
        spec = self.nest.spec
        made = tirx.Var("made", value.ty)
        line = self.time * len(spec.directions) + self.d
        line = line * self.nest.batch + self.first + row
        zero = number(0.0, "float32", lanes)
        y = self.nest.flats["y"]
        return seq(
            [
                tirx.Bind(made, value),
                self.state[key].store(at, self._alive(row, made, old, lanes), lanes),
                y.store(line * spec.hidden + j, self._alive(row, made, zero, lanes), lanes),
            ]
        )

    def _alive(self, row: int, value: tirx.Expr, other: tirx.Expr, lanes: int) -> tirx.Expr:
        """`value` while the row's sequence goes on, then `other`."""
        if not self.nest.spec.lengths:
            return value
        goes_on = self.time < self.nest.flats["lengths"].load(self.first + row)
        condition = goes_on if lanes == 1 else tirx.Broadcast(goes_on, lanes)
        return tirx.Select(condition, value, other)


def _apply(step: Step, value: tirx.Expr) -> tirx.Expr:
    var = tirx.Var("v", value.ty)
    return tirx.Let(var, value, ACTIVATIONS[step.name](var, *step.parameters))
