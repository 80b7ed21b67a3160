"""What a machine says of itself before anything is sent to it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from tilewright.targets import host


def facts() -> dict[str, Any]:
    """Of this machine, as JSON values; sizes of caches (L1 data, L2, L3) in bytes."""
    here = host.detect()
    return {
        "node": platform.node(),
        "cpu": here.title,
        "machine": here.machine,
        "features": sorted(here.features),
        "threads": host.default_threads(),
        "caches": [here.l1d_bytes, here.l2_bytes, here.l3_bytes],
        **{name: version(name) for name in ("tilewright", "apache-tvm")},
    }
