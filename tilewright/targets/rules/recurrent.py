"""Recurrent layers: one kernel over the whole sequence, for one direction.

    for blocks of rows of the batch, for t in the sequence, for vectors of hidden units:
        sums[gate, row] = x[t, row, gate] + sum over k of h[row, k] * r[k, gate]
        c, h = the cell's function of the sums and of c

x @ W for all steps at once is a matrix product of its own, before. The state stays in the cache of
the core that has the rows; r is read once a step and block. A row whose sequence is over keeps its
state and gives zeros.
Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html and onnx__RNN.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import PrimFunc, Stmt

from tilewright.ops import Step
from tilewright.ops.recurrent import RecurrentSpec
from tilewright.targets.rules.epilogue import ELEMENTWISE
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    Kernel,
    bind,
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
MOST_SUMS = 12
MOST_ROWS = 3
# Multiply-adds of a row of the batch that pay for waking another thread.
FEWEST_PRODUCTS = 1 << 16

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
    last = (spec.batch, spec.hidden)
    found = [("y", (spec.sequence, *last)), ("yh", last)]
    return [*found, ("yc", last)] if spec.cell == "LSTM" else found


def kernel(name: str, spec: RecurrentSpec, lanes: int) -> PrimFunc:
    """The loop nest, with vectors of `lanes` numbers."""
    made = Kernel(name)
    n, g = spec.hidden, spec.gates
    shapes: dict[str, tuple[int | str, ...]] = {
        "x": (spec.sequence, spec.batch, g * n),
        "r": (n, g * n),
        "rb": (n,),
        "p": (3 * n,),
        "h0": (spec.batch, n),
        "c0": (spec.batch, n),
        "lengths": (spec.batch,),
    }
    flats = {
        key: made.param(shapes[key], "int32" if key == "lengths" else "float32", key)
        for key in parameters(spec)
    }
    flats |= {key: made.param(shape, "float32", key) for key, shape in results(spec)}
    batch, steps = made.size(spec.batch), made.size(spec.sequence)
    rows = min(spec.batch, MOST_ROWS) if isinstance(spec.batch, int) else 1
    nest = _Nest(spec, flats, rows, lanes, batch)
    blocks = -(-spec.batch // rows) if isinstance(spec.batch, int) else batch

    def block(b: tirx.Expr) -> Stmt:
        # The last block begins early enough to be whole: what two blocks compute is the same.
        first = b if rows == 1 else tirx.min(b * rows, batch - rows)
        return bind(first, "first", lambda at: nest.whole(at, steps))

    work = steps * (g * n * n) if isinstance(steps, int) else steps
    many = not (isinstance(blocks, int) and blocks == 1) and worth_threads(work, FEWEST_PRODUCTS)
    return made.finish(loop(blocks, block, "block", parallel=many))


@dataclass(frozen=True)
class _Nest:
    spec: RecurrentSpec
    flats: dict[str, Flat]
    rows: int
    lanes: int
    batch: Index

    def whole(self, first: tirx.Expr, steps: Index) -> Stmt:
        """The sequence, for `rows` rows from `first` on."""
        n = self.spec.hidden
        h, made_h = workspace(self.rows * n, "float32", "h")
        new, made_new = workspace(self.rows * n, "float32", "new")
        state, made = {"h": h, "new": new}, [made_h, made_new]
        for key in self._extra():
            state[key], allocated = workspace(self.rows * n, "float32", key)
            made.append(allocated)
        size = self.rows * n
        starts = [copy(h, 0, self.flats["h0"], first * n, size, self.lanes)]
        ends = [copy(self.flats["yh"], first * n, h, 0, size, self.lanes)]
        if "c" in state:
            starts.append(copy(state["c"], 0, self.flats["c0"], first * n, size, self.lanes))
            ends.append(copy(self.flats["yc"], first * n, state["c"], 0, size, self.lanes))

        def step(t: tirx.Expr) -> Stmt:
            at = steps - 1 - t if self.spec.reverse else t
            return bind(at, "at", lambda time: self._step(first, time, state))

        return seq([*made, *starts, loop(steps, step, "t"), *ends])

    def _extra(self) -> list[str]:
        """Rows of state beside h: c, or what the gates of a GRU wait with."""
        if self.spec.cell == "LSTM":
            return ["c"]
        return ["z", "rh"] if self._two_phases else []

    @property
    def _two_phases(self) -> bool:
        """Whether a step multiplies twice: a GRU that resets h before the product."""
        return self.spec.cell == "GRU" and not self.spec.linear_before_reset

    def _step(self, first: Index, time: tirx.Expr, state: dict[str, Flat]) -> Stmt:
        place = _Step(self, first, time, state)
        done = []
        if self._two_phases:
            done += [self._units(2, place.reset), self._units(1, place.hidden)]
        else:
            done.append(self._units(self.spec.gates, place.cell))
        size = self.rows * self.spec.hidden
        return seq([*done, copy(state["h"], 0, state["new"], 0, size, self.lanes)])

    def _units(self, gates: int, tile: Callable[[Index, int, int], Stmt]) -> Stmt:
        """All hidden units, as many vectors at a time as leave the sums in registers."""
        n, lanes = self.spec.hidden, self.lanes
        vectors = max(1, min(MOST_SUMS // (gates * self.rows), n // lanes, 4))
        full, rest = divmod(n, vectors * lanes)
        done = []
        if full:
            wide = vectors * lanes
            done.append(loop(full, lambda i: tile(i * wide, vectors, lanes), "unit"))
        for at, size in pieces(rest, lanes):
            done.append(tile(index(full * vectors * lanes + at), 1, size))
        return seq(done)


@dataclass(frozen=True)
class _Step:
    """One step of a block: tiles of its hidden units."""

    nest: _Nest
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
        n, wide, rows = spec.hidden, spec.gates * spec.hidden, nest.rows
        order = {gate: place for place, gate in enumerate(gates)}
        acc, made = local(len(order) * rows * vectors * lanes, "float32", "sums")

        def slot(gate: int, row: int, v: int) -> int:
            return ((order[gate] * rows + row) * vectors + v) * lanes

        steps = [made]
        for gate in order:
            for row in range(rows):
                for v in range(vectors):
                    start = self._start(gate, row, j + v * lanes, lanes)
                    steps.append(acc.store(slot(gate, row, v), start, lanes))

        def add(k: tirx.Expr) -> Stmt:
            done = []
            for v in range(vectors):
                for gate in order:
                    weight = nest.flats["r"].load(k * wide + gate * n + j + v * lanes, lanes)
                    for row in range(rows):
                        at, factor = slot(gate, row, v), source.splat(row * n + k, lanes)
                        done.append(acc.store(at, acc.load(at, lanes) + factor * weight, lanes))
            return seq(done)

        steps.append(loop(n, add, "k"))
        return lambda gate, row, v: acc.load(slot(gate, row, v), lanes), steps

    def _start(self, gate: int, row: int, j: Index, lanes: int) -> tirx.Expr:
        """What a sum begins with: what came in, or a GRU's bias that is reset with the product."""
        if gate == 2 and self.nest.spec.linear_before_reset:
            return self.nest.flats["rb"].load(j, lanes)
        return self._input(gate, row, j, lanes)

    def _input(self, gate: int, row: int, j: Index, lanes: int) -> tirx.Expr:
        n, wide = self.nest.spec.hidden, self.nest.spec.gates * self.nest.spec.hidden
        line = self.time * self.nest.batch + self.first + row
        return self.nest.flats["x"].load(line * wide + gate * n + j, lanes)

    def _activated(self, gate: int, value: tirx.Expr, step: int | None = None) -> tirx.Expr:
        """A gate's activation; `step` is its number where that is not the gate's."""
        spec = self.nest.spec
        if spec.clip is not None:
            value = tirx.max(like(value, -spec.clip), tirx.min(like(value, spec.clip), value))
        return _apply(spec.activations[gate if step is None else step], value)

    def _peephole(self, gate: int, j: Index, lanes: int, c: tirx.Expr) -> tirx.Expr | None:
        if not self.nest.spec.peephole:
            return None
        return self.nest.flats["p"].load(gate * self.nest.spec.hidden + j, lanes) * c

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
        line = self.time * self.nest.batch + self.first + row
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
