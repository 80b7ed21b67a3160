"""The errors of the zoo: what and where, what was expected, and what to do next."""

from __future__ import annotations


class ZooError(Exception):
    """A model could not be fetched or made."""

    exit_code = 2

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        super().__init__(what if hint is None else f"{what}\nhint: {hint}")


class CheckFailed(ZooError):
    """A model was made, but it does not compute what its source computes."""

    exit_code = 1
