"""Tilewright compiles an ONNX model to a native library and proves its numbers.

    import tilewright

    artifact = tilewright.compile("model.onnx")     # checked against ONNX Runtime
    artifact.save("model.so")
    model = tilewright.load("model.so")             # needs TVM's runtime only
    y = model(x)                                    # numpy in, numpy out

Nothing is imported before it is used: `import tilewright` costs a few milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilewright.api import analyze, bench, compile, load, preflight, profile, verify
    from tilewright.compiler.artifact import Artifact
    from tilewright.compiler.runtime import Module
    from tilewright.errors import TilewrightError
    from tilewright.options import CompileOptions
    from tilewright.passes.fusions import DEFAULT_FUSIONS
    from tilewright.targets import Target
    from tilewright.tuning import tune

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_FUSIONS",
    "Artifact",
    "CompileOptions",
    "Module",
    "Target",
    "TilewrightError",
    "analyze",
    "bench",
    "compile",
    "load",
    "preflight",
    "profile",
    "tune",
    "verify",
]

_HOME = {
    "Artifact": "tilewright.compiler.artifact",
    "DEFAULT_FUSIONS": "tilewright.passes.fusions",
    "CompileOptions": "tilewright.options",
    "Module": "tilewright.compiler.runtime",
    "Target": "tilewright.targets",
    "TilewrightError": "tilewright.errors",
    "analyze": "tilewright.api",
    "bench": "tilewright.api",
    "compile": "tilewright.api",
    "load": "tilewright.api",
    "preflight": "tilewright.api",
    "profile": "tilewright.api",
    "tune": "tilewright.tuning",
    "verify": "tilewright.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tilewright' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
