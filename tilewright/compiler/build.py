"""The last stages: LLVM code, and one library with everything inside."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import onnx.printer
import tvm
from tvm import relax

from tilewright.compiler import pool, sections
from tilewright.compiler.kernels import built, compile_kernels, kernels_of, without_kernels
from tilewright.compiler.manifest import build_manifest
from tilewright.errors import UnsupportedModel
from tilewright.passes.graphs import graphs

if TYPE_CHECKING:
    from tilewright.compiler.pipeline import Work


def called_kernels(mod: tvm.IRModule) -> list[str]:
    """Name of the kernel behind each call of one, in order: those of `main`, then those of loops.

    A loop counts as one step.
    """
    found: list[str] = []

    def note(expr: relax.Expr) -> None:
        if isinstance(expr, relax.Call) and getattr(expr.op, "name", "") in _CALLS:
            found.append(expr.args[0].name_hint)

    for graph in graphs(mod):
        relax.analysis.post_order_visit(mod[graph], note)
    return found


_CALLS = ("relax.call_tir", "relax.call_tir_inplace")


def owned_results(main: relax.Function) -> list[bool]:
    """Which results of the planned `main` are memory that it has allocated, in order.

    The others may be an input or a weight, as it is or in another shape.
    """
    bindings = {b.var: b.value for block in main.body.blocks for b in block.bindings}
    result = main.body.body
    whole = bindings.get(result, result)
    fields = list(whole.fields) if isinstance(whole, relax.Tuple) else [result]
    return [_is_allocated(bindings.get(field)) for field in fields]


def _is_allocated(value: relax.Expr | None) -> bool:
    return isinstance(value, relax.Call) and value.op == _ALLOCATE


_ALLOCATE = tvm.ir.Op.get("relax.vm.alloc_tensor")


def bytecode(work: Work) -> relax.VMExecutable:
    """`main` as VM bytecode. Raises UnsupportedModel for a shape that only a run tells."""
    try:
        return relax.build(without_kernels(work.mod), work.tvm_target, relax_pipeline=None)
    except tvm.error.InternalError as error:
        _refuse_open_shape(str(error), work)
        raise


def generate_code(work: Work) -> str:
    """Compile `main` to VM bytecode, and every kernel with LLVM unless the cache has it."""
    work.executable = bytecode(work)
    folder = work.folder / "kernels"
    folder.mkdir()
    with ThreadPoolExecutor(1) as executor:
        parts = executor.submit(_write_parts, work)
        work.objects = compile_kernels(kernels_of(work.mod), work.tvm_target, folder, work.cache)
        work.parts = parts.result()
    names = set(work.kernels)
    return f"{len(names)} kernels, {len(names & work.objects.cached)} from the cache"


def _write_parts(work: Work) -> tuple[Path, ...]:
    """Objects of what is no kernel: the weights and the thread pool."""
    return write_weights(work, sections.WEIGHTS_SYMBOL), pool.write_object(work.folder, work.tools)


def write_weights(work: Work, symbol: str) -> Path:
    """An object with the weights, which start at `symbol`."""
    weights = work.folder / "weights.bin"
    work.weights.write(weights)
    written = sections.write_weights(weights, work.tools, symbol)
    weights.unlink()
    return written


def _refuse_open_shape(message: str, work: Work) -> None:
    """Raise UnsupportedModel when an operator is left because its shape is not known before."""
    found = re.search(
        r"cannot emit this Relax operator.*Offending call:\s*R\.([\w.]+)", message, re.S
    )
    if not found:
        return
    left = f"relax.{found[1]}"
    blocks = [block for graph in graphs(work.mod) for block in work.mod[graph].body.blocks]
    bindings = [b for block in blocks for b in block.bindings]
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
    extra = [sections.write_manifest(work.manifest, work.folder, work.tools), *work.parts]
    work.library = work.folder / "model.so"

    def link_files(output: str, files: list[str], **_kwargs: object) -> None:
        work.tools.link_shared(Path(output), [Path(file) for file in files], work.objects.symbols)

    # The bytecode is packed for the target too, which need not be this machine.
    link_files.get_target_triple = lambda: work.target.triple
    objects = work.folder / "objects"
    objects.mkdir()
    work.executable.export_library(
        str(work.library),
        fcompile=link_files,
        addons=[str(path) for path in (*extra, *work.objects.files)],
        workspace_dir=str(objects),
    )
    return f"{work.library.stat().st_size / 1e6:.1f} MB"


def shown_ir(work: Work, stage: str) -> str:
    """What `--dump` writes after a stage: ONNX, Relax and TIR, or the assembly."""
    if work.executable is not None:
        return _assembly(work) if stage == "codegen" else str(work.manifest)
    if work.mod is not None:
        return work.mod.script(show_meta=False)
    return onnx.printer.to_text(work.model.proto)


def _assembly(work: Work) -> str:
    """The kernels once more, as text and under the names that the model calls them by."""
    modules = [built(f, name, work.tvm_target) for name, f in kernels_of(work.mod).items()]
    return "\n".join(module.inspect_source("asm") for module in modules)
