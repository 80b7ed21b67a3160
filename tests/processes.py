"""Questions about processes that tests start."""

from __future__ import annotations

import os


def alive(pid: int) -> bool:
    """Whether a process of that number is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
