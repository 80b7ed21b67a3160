"""Knobs: what a rule may choose, asked for while it lowers a group.

    vectors = pick("up", "vectors", range(1, 5), default=2)

By itself `pick` gives the default, which the rule derives from the target and the shape. Within
`choosing(choices)` it gives what was chosen for that knob, and notes what could have been: the
space of a rule is what it asks for, and what depends on another knob is asked for after it. The
form is that of "define by run": Akiba et al. 2019, "Optuna".
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Knob:
    """The values that a knob can have, in order, and the one that it has by default."""

    options: tuple[int, ...]
    default: int


class KnobError(ValueError):
    """A value was chosen that the knob cannot have: the choice was made for another space."""


@dataclass
class Choices:
    """Chosen values, by knob; `asked` is filled with the knobs of the group that is lowered.

    `group` is the group's name, with which the names of its kernels begin: a knob is called after
    the rest of its kernel's.
    """

    group: str
    values: Mapping[str, int] = field(default_factory=dict)
    asked: dict[str, Knob] = field(default_factory=dict)
    # What the rule says of each kernel's loop nest, for a cost model.
    facts: dict[str, dict[str, float]] = field(default_factory=dict)

    def pick(self, kernel: str, name: str, options: tuple[int, ...], default: int) -> int:
        """The value of a kernel's knob."""
        full = f"{self.part(kernel)}.{name}".strip(".")
        self.asked[full] = Knob(options, default)
        value = self.choose(full, self.asked[full])
        if value not in options:
            raise KnobError(f"{full} is {value}, and can be {', '.join(map(str, options))}")
        return value

    def choose(self, name: str, knob: Knob) -> int:
        """The value of the knob called `name`."""
        return self.values.get(name, knob.default)

    def part(self, kernel: str) -> str:
        """What the kernel is called within its group; nothing for the one of the group's name."""
        return kernel.removeprefix(self.group).strip("_")


_choices: contextvars.ContextVar[Choices | None] = contextvars.ContextVar("choices", default=None)


@contextlib.contextmanager
def choosing(choices: Choices) -> Iterator[Choices]:
    """Let `choices` answer for every knob."""
    token = _choices.set(choices)
    try:
        yield choices
    finally:
        _choices.reset(token)


def pick(kernel: str, name: str, options: Iterable[int], default: int) -> int:
    """The value of knob `name` of `kernel`: the default, or what was chosen."""
    choices = _choices.get()
    if choices is None:
        return default
    return choices.pick(kernel, name, tuple(sorted({*options, default})), default)


def note(kernel: str, **facts: float) -> None:
    """Say how large the loops of a kernel are: what a cost model learns from."""
    choices = _choices.get()
    if choices is not None:
        choices.facts[choices.part(kernel)] = facts


def scaled(value: int, most: int) -> list[int]:
    """Sizes to try beside `value`: a quarter to four times as much, from 1 to `most`."""
    return [min(most, max(1, round(value * factor))) for factor in (0.25, 0.5, 1, 2, 4)]
