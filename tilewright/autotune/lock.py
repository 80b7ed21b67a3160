"""A lock on a file, which other processes respect that use it too."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on the file `path`, which is made; waits while somebody else has it.

    Raises OSError when the file cannot be made. A process that dies lets go.
    """
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Closing is not enough: a process that was forked meanwhile has the file open, too.
            fcntl.flock(file, fcntl.LOCK_UN)
