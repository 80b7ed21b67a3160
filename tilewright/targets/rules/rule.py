"""What a rule is: it takes a group's spec and a target, and gives kernels with packed weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from tvm.tirx import PrimFunc

from tilewright.ops import Spec
from tilewright.ops.spec import Dim, Shape
from tilewright.targets.target import Target


@dataclass(frozen=True)
class Argument:
    """A tensor that a group takes: `array` where it is known at compile time."""

    shape: Shape
    dtype: str
    array: np.ndarray | None = None

    @property
    def known(self) -> bool:
        """Whether its values are known at compile time."""
        return self.array is not None


@dataclass(frozen=True)
class GroupCall:
    """A group to lower: its spec, its arguments in order, which of them each name stands for.

    `exact`: only with algorithms that err as little as a plain sum does.
    """

    name: str
    spec: Spec
    arguments: tuple[Argument, ...]
    roles: Mapping[str, int]
    result: Argument
    exact: bool = True

    def get(self, role: str) -> Argument | None:
        """The argument of that name; None when the group has none."""
        place = self.roles.get(role)
        return None if place is None else self.arguments[place]


@dataclass(frozen=True)
class Given:
    """An input of a kernel: an argument of the group, as it is or with its channels last."""

    role: str
    channels_last: bool = False


@dataclass(frozen=True)
class Packed:
    """Weights as a kernel reads them: their shape, and what makes them.

    They are made when the kernel is built: a search lowers many choices that it never builds.
    """

    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """How many numbers they are."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class WholeVectors:
    """An open size, rounded up to a multiple: how long rows are that are read in vectors."""

    size: str
    multiple: int


@dataclass(frozen=True)
class PaddedSize:
    """An open size with `more` around it."""

    size: str
    more: int


Extent = Dim | WholeVectors | PaddedSize


@dataclass(frozen=True)
class Launch:
    """One call of a kernel, whose last parameters are its results.

    An input is an argument of the group, weights packed at compile time, or the number of an
    earlier result. `shape` and `dtype` are those of the result; `also` are the shapes of further
    results, of the same dtype.
    """

    kernel: PrimFunc
    inputs: tuple[Given | Packed | int, ...]
    shape: tuple[Extent, ...]
    dtype: str
    also: tuple[Shape, ...] = ()


@dataclass(frozen=True)
class Lowered:
    """A group as launches; the last one has one result, the group's, `channels_last` or not."""

    launches: tuple[Launch, ...]
    channels_last: bool = False


@dataclass(frozen=True)
class Rule:
    """One kind of loop nest.

    `refuses` says why it has no kernel for a group, None where it has, and `slower` why a later
    rule is likely to take less time. `lower` gives the kernels; what it may choose it asks
    `knobs.pick` for.
    """

    name: str
    spec: type[Spec]
    refuses: Callable[[GroupCall, Target], str | None]
    lower: Callable[[GroupCall, Target], Lowered]
    slower: Callable[[GroupCall, Target], str | None] = lambda call, target: None


@dataclass
class Names:
    """Names for the kernels of one group; the last one gets the group's own in the end."""

    base: str
    given: Counter[str] = field(default_factory=Counter)

    def next(self, what: str = "conv") -> str:
        """A name that no other has: numbered from the second of its kind on."""
        self.given[what] += 1
        number = self.given[what]
        return f"{self.base}_{what}{number if number > 1 else ''}"


def last(shape: Shape) -> tuple[Dim, ...]:
    """A shape with its channels, the second axis, last."""
    return (shape[0], *shape[2:], shape[1])
