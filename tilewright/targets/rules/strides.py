"""Views of a tensor as strides: where an element of the view lies in the tensor's memory.

Before   reshape([1, 197, 576], (1, 197, 3, 3, 64)); transpose; slice; reshape to [1, 3, 197, 64]
After    element (0, h, i, j) is number 64 h + 576 i + j of the tensor

An axis may have several strides: heads that are keys' heads, each repeated, have one for the
head and a stride of 0 for the repetition.

Open sizes stand here as large primes, each its own (`numbered`): what divides what, and so which
axes merge, is for them as it is for unknowns. `Strided.named` puts the sizes back in their places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tvm import tirx

from tilewright.ops.attention import View
from tilewright.ops.spec import Dim
from tilewright.targets.rules.tir import Index, index

# Parts of an axis from the outermost to the innermost: (size, stride).
Axis = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Strided:
    """A view: what its axes are, and where it begins."""

    axes: tuple[Axis, ...]
    offset: int = 0
    sizes: tuple[tuple[int, tirx.Expr], ...] = ()

    def named(self, sizes: Mapping[int, Index]) -> Strided:
        """The same with open sizes for their primes."""
        return replace(self, sizes=tuple((prime, index(size)) for prime, size in sizes.items()))

    def at(self, value: int) -> Index:
        """A number of this view as an index."""
        factors = []
        for prime, size in self.sizes:
            while value and value % prime == 0:
                value //= prime
                factors.append(size)
        return math.prod(factors, start=value)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the view."""
        return tuple(math.prod(size for size, _ in axis) for axis in self.axes)

    def stride(self, axis: int) -> Index | None:
        """The distance between neighbours along `axis`; None where it is not always the same."""
        parts = self.axes[axis]
        return None if len(parts) > 1 else self.at(parts[0][1]) if parts else 0

    def place(self, axis: int, at: tirx.Expr) -> Index:
        """How far element `at` of an axis lies from its first one."""
        found: Index = 0
        inner = 1
        for number, (size, stride) in reversed(list(enumerate(self.axes[axis]))):
            here = tirx.floordiv(at, self.at(inner)) if inner > 1 else at
            # The outermost part is what is left.
            here = tirx.floormod(here, self.at(size)) if number else here
            found = found + here * self.at(stride)
            inner *= size
        return found


# Larger than any size that is known, so that none of them divides it.
_PRIMES = (2147483647, 2147483629, 2147483587, 2147483579, 2147483563, 2147483549, 2147483543)


def numbered(sizes: Iterable[Dim]) -> dict[str, int]:
    """A prime for each size that is open, by name. Raises ValueError where there are too many."""
    names = dict.fromkeys(size for size in sizes if isinstance(size, str))
    if len(names) > len(_PRIMES):
        raise ValueError(f"{len(names)} open sizes")
    return dict(zip(names, _PRIMES, strict=False))


def strided(shape: Sequence[int], views: Iterable[View], rank: int) -> Strided:
    """What `views` make of a tensor of `shape` that lies in order; `rank` axes at least.

    Missing axes are put in front. Raises ValueError where a view has no strides.
    """
    made = Strided(_regrouped(_in_order(shape), shape))
    for name, parameters in views:
        made = _VIEWS[name](made, parameters)
    return Strided(((),) * (rank - len(made.axes)) + made.axes, made.offset)


def placed(shape: Sequence[int], views: Iterable[View], rank: int) -> Strided:
    """Where the elements of a tensor of `shape` go in the result of `views`, which lies in order.

    The views only rearrange. Raises ValueError where an axis has no strides.
    """
    made = strided(shape, views, rank)
    sizes = [part for axis in made.axes for part in axis]
    # In the order of the result, with the stride in the tensor; the result's own strides follow.
    ends = [math.prod(size for size, _ in sizes[at + 1 :]) for at in range(len(sizes))]
    pairs = sorted(zip(sizes, ends, strict=True), key=lambda pair: -pair[0][1])
    axes = _regrouped([(size, end) for (size, _), end in pairs], shape)
    return Strided(((),) * (rank - len(axes)) + axes)


def _in_order(shape: Sequence[int]) -> list[tuple[int, int]]:
    return [(size, math.prod(shape[at + 1 :])) for at, size in enumerate(shape)]


def _reshape(x: Strided, shape: Sequence[int]) -> Strided:
    parts = [part for axis in x.axes for part in axis]
    return Strided(_regrouped(parts, shape), x.offset)


def _transpose(x: Strided, order: Sequence[int]) -> Strided:
    return Strided(tuple(x.axes[axis] for axis in order), x.offset)


def _expand(x: Strided, shape: Sequence[int]) -> Strided:
    axes = ((),) * (len(shape) - len(x.axes)) + x.axes
    grown = [
        axis or (((size, 0),) if size > 1 else ()) for axis, size in zip(axes, shape, strict=True)
    ]
    return Strided(tuple(grown), x.offset)


def _slice(x: Strided, numbers: Sequence[int]) -> Strided:
    axes, offset = list(x.axes), x.offset
    for axis, begin, end, step in zip(*[iter(numbers)] * 4, strict=True):
        stride = x.stride(axis)
        if stride is None:
            raise ValueError(f"a slice of axis {axis}, which has several strides")
        size = len(range(begin, end, step))
        offset += begin * stride
        axes[axis] = ((size, stride * step),) if size > 1 else ()
    return Strided(tuple(axes), offset)


_VIEWS = {"reshape": _reshape, "transpose": _transpose, "expand": _expand, "slice": _slice}


def _regrouped(parts: Sequence[tuple[int, int]], shape: Sequence[int]) -> tuple[Axis, ...]:
    """`parts`, from the outermost to the innermost, as axes of these sizes."""
    left = [part for part in reversed(parts) if part[0] != 1]
    axes = []
    for whole in shape:
        axis: list[tuple[int, int]] = []
        missing = whole
        while missing > 1:
            size, stride = left.pop() if left else (0, 0)
            if size and missing % size == 0:
                axis.append((size, stride))
                missing //= size
            elif size and size % missing == 0:
                inner = size // missing
                axis.append((missing, stride * inner))
                left.append((inner, stride))
                missing = 1
            else:
                raise ValueError(f"an axis of {whole} cuts one of {size} in pieces")
        axes.append(_merged(axis))
    return tuple(axes)


def _merged(parts: Sequence[tuple[int, int]]) -> Axis:
    """Parts that follow each other without a gap are one."""
    done: list[tuple[int, int]] = []
    for size, stride in parts:
        if done and done[-1][1] == size * stride:
            done[-1] = (done[-1][0] * size, stride)
        else:
            done.append((size, stride))
    return tuple(done)
