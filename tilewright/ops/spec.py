"""The base of all specs."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from tilewright.ops.step import Step

Dim = int | str
Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class Spec:
    """A frozen description of a computation; equal specs are the same task for a tuner."""

    dtype: str

    @property
    def kind(self) -> str:
        """The class's name without "Spec", as reports and records spell it."""
        return type(self).__name__.removesuffix("Spec")

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values, with `kind` first; a step is its text, a spec its dict.

        JSON has no infinity: it is a text.
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = json.loads(json.dumps(named, default=_json_value), parse_constant=str)
        return {"kind": self.kind, **plain}

    def key(self) -> str:
        """A stable text for records: sorted JSON."""
        return json.dumps(self.to_dict(), sort_keys=True)


def _json_value(value: object) -> str | dict[str, Any]:
    if isinstance(value, Step):
        return str(value)
    if isinstance(value, Spec):
        return value.to_dict()
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def check_sizes(spec: Spec, **sizes: Dim | Shape) -> None:
    """Raise ValueError when a size is negative: a spec checks itself at birth."""
    for name, value in sizes.items():
        for size in value if isinstance(value, tuple) else (value,):
            if isinstance(size, int) and size < 0:
                raise ValueError(f"{spec.kind}: {name} is {value}")
