"""What a rule is: it takes a group's spec and a target, and gives kernels with packed weights."""

from __future__ import annotations

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
class Launch:
    """One call of a kernel, whose last parameter is the result.

    An input is an argument of the group, an array made at compile time, or the number of an
    earlier launch. `shape` and `dtype` are those of the result.
    """

    kernel: PrimFunc
    inputs: tuple[Given | np.ndarray | int, ...]
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class Lowered:
    """A group as launches; the last one's result is the group's, `channels_last` or not."""

    launches: tuple[Launch, ...]
    channels_last: bool = False


@dataclass(frozen=True)
class Rule:
    """One kind of loop nest.

    `refuses` says why it has no kernel for a group, None where it has. `lower` gives the
    kernels, with the knobs that it derives from the target.
    """

    name: str
    spec: type[Spec]
    refuses: Callable[[GroupCall, Target], str | None]
    lower: Callable[[GroupCall, Target], Lowered]


@dataclass
class Names:
    """Kernel names of one group: its own, with a number from the second on."""

    base: str
    count: int = field(default=0)

    def next(self, what: str = "") -> str:
        """A name nobody has."""
        self.count += 1
        return f"{self.base}_{what}" if what else self.base


def last(shape: Shape) -> tuple[Dim, ...]:
    """A shape with its channels, the second axis, last."""
    return (shape[0], *shape[2:], shape[1])
