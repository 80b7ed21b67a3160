"""One exception tree; every error says what, where, what was expected and what to do next.

`exit_code` is what the command line returns: 2 when we could not run, 1 when the model
failed a check. Errors travel from the child process that compiles as plain dictionaries.
"""

from __future__ import annotations

from typing import Any

# What a kernel says, and who called it finds in what it raised.
NO_POSITIONS = "the model does not take these sizes: they leave nothing to take a mean of"


class TilewrightError(Exception):
    """Base of everything this package raises on purpose.

    `what` is one sentence; `where` names a file, node, tensor or flag; `expected` says what
    would have been right; `hint` is the next thing to do.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        for label in ("where", "expected", "hint"):
            if value := getattr(self, label):
                lines.append(f"  {label}: {value}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON values; `from_dict` gives it back with its class."""
        return {
            "kind": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "expected": self.expected,
            "hint": self.hint,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> TilewrightError:
        """The error that `to_dict` described."""
        kinds = {kind.__name__: kind for kind in _all_kinds(TilewrightError)}
        fields = {name: data[name] for name in ("where", "expected", "hint")}
        return kinds[data["kind"]](data["what"], **fields)


class ModelError(TilewrightError):
    """The ONNX file is missing, broken, unsafe, or not something ONNX allows."""


class UnsupportedModel(TilewrightError):
    """The model is valid ONNX, but uses what we cannot compile yet."""


class OptionError(TilewrightError):
    """A flag or an argument does not fit."""


class FusionError(TilewrightError):
    """A fusion that a user wrote raised, gave no answer, or covers what cannot be lowered."""


class TargetError(TilewrightError):
    """The target is unknown, or this machine cannot build for it or run it."""


class ToolchainError(TilewrightError):
    """Something the build needs is missing on this machine."""


class CompileError(TilewrightError):
    """The compiler failed, crashed or ran out of memory on a model that should compile."""


class ArtifactError(TilewrightError):
    """A compiled file is damaged, or does not fit this machine or these versions."""


class InputError(TilewrightError):
    """An array handed to a model has the wrong name, dtype or shape."""


class OutputError(TilewrightError):
    """A result could not be written."""


class CheckFailed(TilewrightError):
    """The model ran, and its numbers are wrong."""

    exit_code = 1


def _all_kinds(kind: type[TilewrightError]) -> list[type[TilewrightError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in _all_kinds(sub))]
