"""The last stages: LLVM code, and one library with everything inside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import onnx.printer
import tvm
from tvm import relax

from tilewright.compiler import pool, sections
from tilewright.compiler.manifest import build_manifest
from tilewright.errors import UnsupportedModel
from tilewright.targets import toolchain
from tilewright.targets.rules.registers import PIPELINE

if TYPE_CHECKING:
    from tilewright.compiler.pipeline import Work


def called_kernels(main: relax.Function) -> list[str]:
    """Name of the kernel behind each `call_tir` of `main`, in order."""
    calls = [b.value for block in main.body.blocks for b in block.bindings]
    return [
        call.args[0].name_hint
        for call in calls
        if isinstance(call, relax.Call) and getattr(call.op, "name", "") == "relax.call_tir"
    ]


def generate_code(work: Work) -> str:
    """Compile every kernel with LLVM and `main` to VM bytecode."""
    try:
        work.executable = relax.build(
            work.mod, work.tvm_target, relax_pipeline=None, tir_pipeline=PIPELINE
        )
    except tvm.error.InternalError as error:
        _refuse_open_shape(str(error), work)
        raise
    return f"{len(set(work.kernels))} kernels"


def _refuse_open_shape(message: str, work: Work) -> None:
    """Raise UnsupportedModel when an operator is left because its shape is not known before."""
    found = re.search(
        r"cannot emit this Relax operator.*Offending call:\s*R\.([\w.]+)", message, re.S
    )
    if not found:
        return
    left = f"relax.{found[1]}"
    bindings = [b for block in work.mod["main"].body.blocks for b in block.bindings]
    at = [b.var.name for b in bindings if getattr(getattr(b.value, "op", None), "name", "") == left]
    raise UnsupportedModel(
        f"the result's shape is only known at run time ({found[1]})",
        where=", ".join(f"node {n}" for name in at for n in work.origins.get(name, (name,)))
        or work.path.name,
        expected="shapes that follow from the shapes of the inputs",
        hint="make the input that holds the shape a constant of the model",
    )


def link(work: Work) -> str:
    """Write the library into the work folder."""
    work.manifest = build_manifest(work)
    weights = work.folder / "weights.bin"
    work.weights.write(weights)
    extra = [
        sections.write_object(work.manifest, weights, work.folder),
        pool.write_object(work.folder),
    ]
    work.library = work.folder / "model.so"

    def link_files(output: str, files: list[str], **_kwargs: object) -> None:
        toolchain.link_shared(Path(output), [Path(file) for file in files])

    objects = work.folder / "objects"
    objects.mkdir()
    work.executable.export_library(
        str(work.library),
        fcompile=link_files,
        addons=[str(path) for path in extra],
        workspace_dir=str(objects),
    )
    weights.unlink()
    return f"{work.library.stat().st_size / 1e6:.1f} MB"


def shown_ir(work: Work, stage: str) -> str:
    """What `--dump` writes after a stage: ONNX, Relax and TIR, or the assembly."""
    if work.executable is not None:
        return _assembly(work.executable.mod) if stage == "codegen" else str(work.manifest)
    if work.mod is not None:
        return work.mod.script(show_meta=False)
    return onnx.printer.to_text(work.model.proto)


def _assembly(module: tvm.runtime.Module) -> str:
    texts = [m.inspect_source("asm") for m in (module, *module.imports) if m.kind == "llvm"]
    return "\n".join(texts)
