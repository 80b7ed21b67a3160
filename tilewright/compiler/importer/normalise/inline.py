"""Replace calls of the model's own functions by their bodies."""

from __future__ import annotations

import onnx.inliner

from tilewright.compiler.importer.model import OnnxModel
from tilewright.errors import ModelError


def inline_functions(model: OnnxModel) -> None:
    """Inline every model-local function; a function that calls itself is an error."""
    if not model.proto.functions:
        return
    try:
        model.proto = onnx.inliner.inline_local_functions(model.proto, convert_version=False)
    except Exception as error:
        raise ModelError(
            f"the model's functions cannot be inlined: {' '.join(str(error).split())}",
            where=f"functions {', '.join(f.name for f in model.proto.functions)}",
        ) from error
