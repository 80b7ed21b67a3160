"""How many examples a property test draws: few in every run, more when asked for.

TILEWRIGHT_EXAMPLES=20 python -m pytest tests/targets     twenty times as many
"""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("TILEWRIGHT_EXAMPLES", "1"))


def examples(count: int) -> int:
    """`count` in every run."""
    return max(1, round(count * FACTOR))
