"""Where the operands and the result of an attention lie in the tensors that they are parts of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilewright.ops import AttentionSpec
from tilewright.ops.attention import Operand, View
from tilewright.ops.spec import Dim
from tilewright.targets.rules.strides import Strided, numbered, placed, strided
from tilewright.targets.rules.tir import Index


@dataclass(frozen=True)
class Views:
    """Where q and k [batch, heads, d, n], v and y [batch, heads, n, d] lie."""

    q: Strided
    k: Strided
    v: Strided
    y: Strided


def views_of(spec: AttentionSpec, size: Callable[[str], Index] | None = None) -> Views:
    """The views of a spec; `size` is what an open size is called in a kernel, once there is one.

    Raises ValueError where one has no strides.
    """
    primes = numbered(open_sizes(spec))
    named = {prime: size(name) for name, prime in primes.items()} if size else {}

    def plain(values: Sequence[Dim]) -> list[int]:
        return [primes.get(value, value) for value in values]

    def views(of: tuple[View, ...]) -> list[View]:
        return [(name, plain(values)) for name, values in of]

    def of(operand: Operand) -> Strided:
        return strided(plain(operand.shape), views(operand.views), 4).named(named)

    weighted = (spec.batch, spec.heads, spec.queries, spec.value_size)
    if spec.y and spec.y[0][0] == "transpose":
        # Scores without a batch have one axis less.
        weighted = weighted[-len(spec.y[0][1]) :]
    y = placed(plain(weighted), views(spec.y), 4).named(named)
    return Views(of(spec.q), of(spec.k), of(spec.v), y)


def open_sizes(spec: AttentionSpec) -> list[str]:
    """Names of the sizes that are open, each once."""
    sizes = [spec.batch, spec.queries, spec.keys]
    for operand in (spec.q, spec.k, spec.v):
        sizes += [*operand.shape, *(n for _, values in operand.views for n in values)]
    sizes += [n for _, values in spec.y for n in values]
    return list(dict.fromkeys(size for size in sizes if isinstance(size, str)))
