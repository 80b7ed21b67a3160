"""What the C functions of a standalone library are called."""

from __future__ import annotations

import re

from tilewright.errors import OptionError

# In a bundle, whose program calls them so.
PREFIX = "model"


def check_prefix(prefix: str) -> str:
    """`prefix` when C functions can be called so; OptionError says what else to use."""
    if re.fullmatch(r"[A-Za-z]\w*", prefix, re.ASCII):
        return prefix
    raise OptionError(
        f"C functions cannot be called {prefix}_run",
        expected="a library name of letters, digits and _, such as libmodel.so",
        hint="choose one with -o",
    )
