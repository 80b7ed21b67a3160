"""Which machines measure, as a user says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tilewright.errors import OptionError

# TVM's own ports.
BOARD_PORT, TRACKER_PORT = 9090, 9190


@dataclass(frozen=True)
class Where:
    """The board whose server listens at `address`, or all those of `key` that a tracker knows.

    `address` is host and port; where `tracked`, those of the tracker, of whose boards at most
    `most` are used.
    """

    address: tuple[str, int]
    key: str
    tracked: bool = False
    most: int | None = None

    def __str__(self) -> str:
        return f"{self.address[0]}:{self.address[1]}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Where:
        """What `to_dict` gave."""
        return Where(**{**values, "address": tuple(values["address"])})


def address_value(text: str, port: int) -> tuple[str, int]:
    """`pi.local:9091` -> ("pi.local", 9091); `port` where none is given."""
    host, _, given = text.rpartition(":") if ":" in text else (text, "", "")
    if not host or (given and not given.isdigit()) or (":" in text and not given):
        raise OptionError(f"cannot read the address {text}", expected=f"HOST:PORT, such as {port}")
    return host, int(given) if given else port
