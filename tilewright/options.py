"""Everything a user may choose about a compilation: one frozen value, and its digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from tilewright.errors import OptionError

OPT_LEVELS = (0, 1, 2, 3)
# The level from which on kernels may err more than a plain sum does.
SPENDS_ERROR_BUDGET = 3


@dataclass(frozen=True)
class CompileOptions:
    """How to compile.

    `opt_level`: 0 import and fallback schedules; 1 adds clean-up and BN folding; 2 adds
    fusion and schedules with exact algorithms; 3 whatever else spends error budget for speed.
    `dims`: symbolic dimension -> size, or (low, high) bounds. `disable` and `only` name
    optional steps (`tilewright.compiler.steps`). `threads` is the default
    the artifact will run with; None leaves it to the machine that loads it. `seed` draws the
    inputs of the check. `standalone` asks for a library that runs without TVM, whose functions
    start with it, "model" for model_run; None: TVM's runtime where it is needed. `glibc` is the
    oldest version that the library is to run with, and `cc` the C compiler that links it;
    `musl` links with musl instead, and `static` makes the program of a bundle, with musl, one
    file that needs no C library.
    """

    opt_level: int = 3
    dims: Mapping[str, int | tuple[int, int]] = field(default_factory=dict)
    disable: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    threads: int | None = None
    seed: int = 0
    standalone: str | None = None
    glibc: str | None = None
    cc: str | None = None
    musl: bool = False
    static: bool = False

    def __post_init__(self) -> None:
        if self.opt_level not in OPT_LEVELS:
            raise OptionError(
                f"there is no optimisation level {self.opt_level}", expected="0, 1, 2 or 3"
            )
        if self.seed < 0:
            raise OptionError(f"seed {self.seed}", expected="0 or more")
        if self.threads is not None and self.threads < 1:
            raise OptionError(f"{self.threads} threads", expected="at least 1")
        if self.standalone is None and (self.musl or self.static):
            raise OptionError(
                "a library with musl cannot use TVM's runtime, which is linked to glibc",
                expected="a standalone library",
                hint="add --standalone",
            )
        if self.glibc is not None and (self.musl or self.static):
            raise OptionError(f"--glibc {self.glibc} and musl", expected="one C library")
        if self.glibc is not None and not re.fullmatch(r"2\.\d+", self.glibc):
            raise OptionError(f"--glibc {self.glibc}", expected="a version such as 2.31")
        for name, size in self.dims.items():
            low, high = (size, size) if isinstance(size, int) else size
            if not 0 <= low <= high:
                raise OptionError(
                    f"--dim {name}: {low}..{high}", expected="0 <= low <= high, such as 1..512"
                )

    def to_dict(self) -> dict:
        """All fields as JSON values."""
        return json.loads(json.dumps(asdict(self), sort_keys=True))

    @staticmethod
    def from_dict(data: dict) -> CompileOptions:
        """The options that `to_dict` described."""
        dims = {k: v if isinstance(v, int) else tuple(v) for k, v in data["dims"].items()}
        fields = {**data, "dims": dims}
        fields.update(disable=tuple(data["disable"]), only=tuple(data["only"]))
        return CompileOptions(**fields)

    def digest(self) -> str:
        """A key that changes when any field does."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
