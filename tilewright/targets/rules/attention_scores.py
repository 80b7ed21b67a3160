"""What happens to the scores of an attention between their product and the softmax.

    score = bias + cap(score);  score = score + mask, or where(mask, score, fill)

Scores lie with their queries side by side. A bias or mask [.., queries, keys] is therefore read
transposed, [.., keys, queries in whole vectors] in float32: a constant one is transposed at
compile time, another one by a kernel before the attention. A causal mask is not read at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from tilewright.ops import AttentionSpec
from tilewright.ops.spec import Dim, Shape
from tilewright.targets.rules.rule import Argument, Given, GroupCall, Launch, Packed, WholeVectors
from tilewright.targets.rules.tir import Flat, Index, Kernel, Stmt, ceil_div, loop, number, seq
from tilewright.targets.rules.vector_math import tanh

# A score that a constant mask changes to this is hidden: exp underflows to 0 in float32.
_HIDES = -1e3
# Of queries in a panel: the knob `vectors` has no more.
MOST_VECTORS = 4


@dataclass(frozen=True)
class _Table:
    """A bias or mask of `shape` [.., queries or 1, keys or 1], transposed, with rows of `row`."""

    flat: Flat
    shape: tuple[Index, ...]
    row: Index
    batch: Index

    def load(self, lead: tuple[tirx.Expr, tirx.Expr], query: Index, key: Index, n: int):
        """What belongs to the scores of `n` queries with one key of one head."""
        queries, keys = self.shape[-2:]
        place = self._matrix(lead) * (keys * self.row)
        place = place if _is_one(keys) else place + key * self.row
        return self.flat.splat(place, n) if _is_one(queries) else self.flat.load(place + query, n)

    def _matrix(self, lead: tuple[tirx.Expr, tirx.Expr]) -> Index:
        """The number of the matrix for this batch and head."""
        image, head = lead
        sizes = (1,) * (4 - len(self.shape)) + tuple(self.shape[:-2])
        places: list[Index] = [image, head]
        if len(sizes) == 3:
            # Swin: the batch is images times windows.
            windows = self.batch // sizes[0] if _is_one(sizes[1]) else sizes[1]
            places = [tirx.floordiv(image, windows), tirx.floormod(image, windows), head]
        number: Index = 0
        for size, place in zip(sizes, places, strict=True):
            number = number if _is_one(size) else number * size + place
        return number


class Scores:
    """What is done to vectors of scores, with the arrays it reads as parameters of `kernel`.

    `inputs` is what the attention gets for them.
    """

    def __init__(self, call: GroupCall, kernel: Kernel, lanes: int, launches: list[Launch]) -> None:
        """`launches` are the kernels before the attention, to which others are added."""
        self._spec: AttentionSpec = call.spec
        self._launches = launches
        self.inputs: list[Packed | int] = []
        self._kernel, self._lanes = kernel, lanes
        self._tables: dict[str, _Table] = {}
        if self._spec.bias is not None:
            self._read(call, "bias", "add")
        if self._spec.mask != "none" and not self.causal:
            self._read(call, "mask", self._spec.mask)

    @staticmethod
    def refuses(call: GroupCall) -> str | None:
        """Why a bias or mask cannot be read; None where it can."""
        spec: AttentionSpec = call.spec
        for name, shape, kind in (("bias", spec.bias, "add"), ("mask", spec.mask_shape, spec.mask)):
            if shape is None:
                continue
            dtype, wanted = call.get(name).dtype, "float32" if kind == "add" else "bool"
            if not _fits(shape, spec):
                return f"the {name}'s sizes are open, and not known to be those of the scores"
            if not 2 <= len(shape) <= 5 or dtype != wanted:
                return f"the {name} is {dtype} with {len(shape)} axes"
        return None

    @property
    def causal(self) -> bool:
        """Whether keys after a query have no weight, whatever their score."""
        spec = self._spec
        return spec.causal and spec.fill is not None and spec.fill <= _HIDES

    def __call__(
        self,
        score: tirx.Expr,
        lead: tuple[tirx.Expr, tirx.Expr],
        query: Index,
        key: Index,
        lanes: int,
    ) -> tirx.Expr:
        """Scores of `lanes` queries from `query` on with one key; `lead` is batch and head."""
        spec = self._spec
        if spec.softcap:
            cap = number(spec.softcap, "float32", lanes)
            score = cap * tanh(score / cap)
        if "bias" in self._tables:
            score = score + self._tables["bias"].load(lead, query, key, lanes)
        if self.causal:
            queries = tirx.Ramp(query, tirx.IntImm("int32", 1), lanes) if lanes > 1 else query
            keys = tirx.Broadcast(key, lanes) if lanes > 1 else key
            return tirx.Select(keys <= queries, score, number(-math.inf, "float32", lanes))
        if "mask" not in self._tables:
            return score
        mask = self._tables["mask"].load(lead, query, key, lanes)
        if spec.mask == "add":
            return score + mask
        fill = number(spec.fill, "float32", lanes)
        return tirx.Select(mask > number(0.0, "float32", lanes), score, fill)

    def _read(self, call: GroupCall, name: str, kind: str) -> None:
        given = call.get(name)
        queries = given.shape[-2]
        row = _row(queries, self._lanes)
        if given.array is not None:
            source: Packed | int = _transposed(given, kind, row)
        else:
            source = len(self._launches)
            title = f"{call.name}_{name}"
            self._launches.append(_transposing(title, name, given, kind, row, self._lanes))
        shape = (*given.shape[:-2], given.shape[-1], _name_of(row, name))
        self.inputs.append(source)
        flat = self._kernel.param(shape, "float32", name)
        sizes = tuple(map(self._kernel.size, given.shape))
        batch = self._kernel.size(self._spec.batch)
        self._tables[name] = _Table(flat, sizes, self._kernel.size(shape[-1]), batch)


def _row(queries: Dim, lanes: int) -> int | WholeVectors:
    """How long rows of queries are: whole panels of an open number, which are read to their end."""
    if isinstance(queries, str):
        return WholeVectors(queries, MOST_VECTORS * lanes)
    return 1 if queries == 1 else -(-queries // lanes) * lanes


def _name_of(row: int | WholeVectors, table: str) -> Dim:
    """A size as parameters of kernels have it."""
    return row if isinstance(row, int) else f"row of {table}"


def _fits(shape: Shape, spec: AttentionSpec) -> bool:
    """Whether each open size is known to be that of the scores along the same axis."""
    if len(shape) > 4:
        return all(isinstance(size, int) for size in (*shape, spec.batch))
    wanted = (spec.batch, spec.heads, spec.queries, spec.keys)[4 - len(shape) :]
    return all(
        isinstance(size, int) or size == own for size, own in zip(shape, wanted, strict=True)
    )


def _is_one(size: Index) -> bool:
    return isinstance(size, int) and size == 1


def _transposed(given: Argument, kind: str, row: int) -> Packed:
    """[.., queries, keys] to [.., keys, row]; what is beyond the queries is 0."""
    *lead, queries, keys = given.shape
    shape = (*lead, keys, row)

    def make() -> np.ndarray:
        values = given.array.astype(np.float32)
        done = np.zeros(shape, np.float32)
        done[..., :queries] = np.swapaxes(1 - values if kind == "where_drop" else values, -1, -2)
        return done

    return Packed(shape, make)


def _transposing(
    title: str, name: str, given: Argument, kind: str, row: int | WholeVectors, lanes: int
) -> Launch:
    """A kernel that does what `_transposed` does; of a bool, 1 is what keeps a score."""
    kernel = Kernel(title)
    x = kernel.param(given.shape, given.dtype, "x")
    shape = (*given.shape[:-2], given.shape[-1], row)
    long = _name_of(row, name)
    y = kernel.param((*shape[:-1], long), "float32", "y")
    *lead, queries, keys = map(kernel.size, given.shape)
    long = kernel.size(long)

    def value(at: Index) -> tirx.Expr:
        if kind == "add":
            return x.load(at)
        one, zero = number(1.0, "float32"), number(0.0, "float32")
        return tirx.Select(x.load(at), *((one, zero) if kind == "where_keep" else (zero, one)))

    def matrix(at: tirx.Expr) -> Stmt:
        # A few keys at a time: what is read and what is written both stay in L1.
        return loop(ceil_div(keys, lanes), lambda group: keys_of(at, group * lanes), "group")

    def keys_of(at: tirx.Expr, first: Index) -> Stmt:
        even = isinstance(keys, int) and keys % lanes == 0
        count = lanes if even else tirx.min(lanes, keys - first)

        def one(query: tirx.Expr) -> Stmt:
            def move(i: tirx.Expr) -> Stmt:
                key = first + i
                source = value((at * queries + query) * keys + key)
                return y.store((at * keys + key) * long + query, source)

            return loop(count, move, "key")

        def padding(query: tirx.Expr) -> Stmt:
            return loop(
                count,
                lambda i: y.store(
                    (at * keys + first + i) * long + queries + query, number(0.0, "float32")
                ),
                "key",
            )

        steps = [loop(queries, one, "query")]
        if not (isinstance(long, int) and long == queries):
            steps.append(loop(long - queries, padding, "beyond"))
        return seq(steps)

    body = loop(math.prod(lead), matrix, "matrix", parallel=True)
    return Launch(kernel.finish(body), (Given(name),), shape, "float32")
