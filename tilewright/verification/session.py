"""An ONNX Runtime session, for what measures as well: importing this brings in no TVM, no onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.compiler.importer.torch_program import as_onnx
from tilewright.errors import ModelError


def open_session(path: str, threads: int) -> Any:
    """An ONNX Runtime session with default optimisations on `threads` threads.

    Raises ModelError when ONNX Runtime refuses the model.
    """
    import onnxruntime

    file = str(as_onnx(Path(path)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        said = " ".join(str(error).replace(file, Path(path).name).split())[:300]
        raise ModelError(
            f"ONNX Runtime, the reference, refuses the model: {said}",
            where=path,
            hint="--no-verify compiles without the check",
        ) from error
