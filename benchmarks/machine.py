"""What a benchmark ran on, written beside its figures."""

from __future__ import annotations

import json
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tilewright.targets import host, resolve

RESULTS = Path(__file__).resolve().parent / "results"
_VERSIONED = ("tilewright", "apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "numpy")
# Compared with where it is installed (`pip install --group bench`), and what exports programs.
_OPTIONAL = ("openvino", "torch", "onnxscript")


def describe() -> dict[str, Any]:
    """CPU, cores, system, versions and the date (UTC)."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "cpu": resolve("native").title,
        "cores": os.cpu_count(),
        "threads_by_default": host.default_threads(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in (*_VERSIONED, *_installed())},
    }


def _installed() -> list[str]:
    return [name for name in _OPTIONAL if find_spec(name) is not None]


def write(name: str, data: dict[str, Any]) -> Path:
    """Write `data` and the machine's description to results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": describe(), **data}, indent=1) + "\n")
    return path
