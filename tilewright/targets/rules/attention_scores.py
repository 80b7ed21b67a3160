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
from tilewright.ops.spec import Shape
from tilewright.targets.rules.rule import Argument, Given, GroupCall, Launch, Packed
from tilewright.targets.rules.tir import Flat, Index, Kernel, Stmt, loop, number, seq
from tilewright.targets.rules.vector_math import tanh

# A score that a constant mask changes to this is hidden: exp underflows to 0 in float32.
_HIDES = -1e3


@dataclass(frozen=True)
class _Table:
    """A bias or mask of `shape` [.., queries or 1, keys or 1], transposed."""

    flat: Flat
    shape: Shape
    row: int
    batch: int

    def load(self, lead: tuple[tirx.Expr, tirx.Expr], query: Index, key: Index, n: int):
        """What belongs to the scores of `n` queries with one key of one head."""
        queries, keys = self.shape[-2:]
        place = self._matrix(lead) * (keys * self.row)
        place = place + key * self.row if keys > 1 else place
        return self.flat.splat(place, n) if queries == 1 else self.flat.load(place + query, n)

    def _matrix(self, lead: tuple[tirx.Expr, tirx.Expr]) -> Index:
        """The number of the matrix for this batch and head."""
        image, head = lead
        sizes = (1,) * (4 - len(self.shape)) + tuple(self.shape[:-2])
        places: list[Index] = [image, head]
        if len(sizes) == 3:
            # Swin: the batch is images times windows.
            windows = sizes[1] if sizes[1] > 1 else self.batch // sizes[0]
            places = [tirx.floordiv(image, windows), tirx.floormod(image, windows), head]
        number: Index = 0
        for size, place in zip(sizes, places, strict=True):
            number = number * size + place if size > 1 else number
        return number


class Scores:
    """What is done to vectors of scores, with the arrays it reads as parameters of `kernel`.

    `launches` are the kernels before the attention, `inputs` what the attention gets for them.
    """

    def __init__(self, call: GroupCall, kernel: Kernel, lanes: int) -> None:
        self._spec: AttentionSpec = call.spec
        self.launches: list[Launch] = []
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
            if not all(isinstance(size, int) for size in shape):
                return f"the {name}'s sizes are open"
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
        row = 1 if queries == 1 else -(-queries // self._lanes) * self._lanes
        if given.array is not None:
            source: Packed | int = _transposed(given, kind, row)
        else:
            source = len(self.launches)
            title = f"{call.name}_{name}"
            self.launches.append(_transposing(title, name, given, kind, row, self._lanes))
        shape = (*given.shape[:-2], given.shape[-1], row)
        self.inputs.append(source)
        flat = self._kernel.param(shape, "float32", name)
        self._tables[name] = _Table(flat, given.shape, row, self._spec.batch)


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


def _transposing(title: str, name: str, given: Argument, kind: str, row: int, lanes: int) -> Launch:
    """A kernel that does what `_transposed` does; of a bool, 1 is what keeps a score."""
    *lead, queries, keys = given.shape
    shape = (*lead, keys, row)
    kernel = Kernel(title)
    x = kernel.param(given.shape, given.dtype, "x")
    y = kernel.param(shape, "float32", "y")

    def value(at: Index) -> tirx.Expr:
        if kind == "add":
            return x.load(at)
        one, zero = number(1.0, "float32"), number(0.0, "float32")
        return tirx.Select(x.load(at), *((one, zero) if kind == "where_keep" else (zero, one)))

    def matrix(at: tirx.Expr) -> Stmt:
        # A few keys at a time: what is read and what is written both stay in L1.
        return loop(-(-keys // lanes), lambda group: keys_of(at, group * lanes), "group")

    def keys_of(at: tirx.Expr, first: Index) -> Stmt:
        count = lanes if keys % lanes == 0 else tirx.min(lanes, keys - first)

        def one(query: tirx.Expr) -> Stmt:
            def move(i: tirx.Expr) -> Stmt:
                key = first + i
                source = value((at * queries + query) * keys + key)
                return y.store((at * keys + key) * row + query, source)

            return loop(count, move, "key")

        def padding(query: tirx.Expr) -> Stmt:
            return loop(
                count,
                lambda i: y.store(
                    (at * keys + first + i) * row + queries + query, number(0.0, "float32")
                ),
                "key",
            )

        steps = [loop(queries, one, "query")]
        if row > queries:
            steps.append(loop(row - queries, padding, "beyond"))
        return seq(steps)

    body = loop(math.prod(lead), matrix, "matrix", parallel=True)
    return Launch(kernel.finish(body), (Given(name),), shape, "float32")
