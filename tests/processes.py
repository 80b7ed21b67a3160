"""Questions about processes that tests start."""

from __future__ import annotations

from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process of that number is there, and has not ended unnoticed by its parent."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    # After the name, which may hold anything: the state; Z is a zombie.
    return status.rpartition(")")[2].split()[0] != "Z"
