"""Compile in this process, without the child: what a test needs beyond `tests.models`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tilewright.compiler import pipeline, runtime
from tilewright.compiler.kernel_cache import KernelCache, default_folder
from tilewright.options import CompileOptions
from tilewright.targets import Target, resolve

_numbers = itertools.count()


def compile_here(
    proto: onnx.ModelProto | Path,
    folder: Path,
    *,
    target: str | Target = "native",
    shapes: Mapping[str, Sequence[int]] | None = None,
    until: str | None = None,
    cache: KernelCache | None = None,
    options: CompileOptions | None = None,
    **fields: object,
) -> pipeline.Work:
    """Run the pipeline's stages on `proto`; `until` names the last one to run.

    `cache` is the one of this run of the tests, unless another is given.
    """
    place = folder / f"work{next(_numbers)}"
    place.mkdir()
    path = proto
    if isinstance(proto, onnx.ModelProto):
        path = place / "model.onnx"
        path.write_bytes(proto.SerializeToString())
    work = pipeline.Work(
        path=Path(path),
        target=resolve(target),
        options=options or CompileOptions(**fields),
        shapes=shapes or {},
        folder=place,
        cache=cache or KernelCache(default_folder()),
    )
    for stage in pipeline.chosen_stages(work.options):
        stage.run(work)
        if stage.name == until:
            break
    return work


def module_of(
    proto: onnx.ModelProto | Path, folder: Path, threads: int = 1, **fields: object
) -> runtime.Module:
    """`proto` compiled and loaded."""
    return runtime.load(compile_here(proto, folder, **fields).library, threads)


def reference(
    proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray], optimise: bool = True
) -> list[np.ndarray]:
    """ONNX Runtime's answer."""
    return session(proto, optimise).run(None, dict(inputs))


def session(proto: onnx.ModelProto, optimise: bool = True) -> Any:
    """ONNX Runtime with `proto` loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
