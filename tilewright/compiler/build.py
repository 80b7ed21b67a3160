"""The last stages: LLVM code, and one library with everything inside.

What calls the kernels is tables, which C walks, where the order of calls and all sizes are known
before a run (`compiler/standalone/`); elsewhere bytecode of TVM's VM (`compiler/bytecode.py`).
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import onnx.printer
import tvm
from tvm import relax

from tilewright.compiler import bytecode, pool, sections
from tilewright.compiler.kernels import built, compile_kernels, kernels_of
from tilewright.compiler.manifest import build_manifest
from tilewright.compiler.standalone import build as standalone
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


def generate_code(work: Work) -> str:
    """Compile every kernel with LLVM unless the cache has it, and what calls them."""
    if work.tables is None:
        work.executable = bytecode.bytecode(work)
    folder = work.folder / "kernels"
    folder.mkdir()
    # A process that is forked while the thread below holds `tempfile`'s lock waits for it for ever.
    # The lock is taken for the first name alone: that is now.
    with tempfile.NamedTemporaryFile():
        pass
    with ThreadPoolExecutor(1) as executor:
        parts = executor.submit(_write_parts, work)
        work.objects = compile_kernels(kernels_of(work.mod), work.tvm_target, folder, work.cache)
        work.parts = parts.result()
    if work.tables is not None:
        work.parts = (standalone.write_tables(work), *work.parts)
    names = set(work.kernels)
    return f"{len(names)} kernels, {len(names & work.objects.cached)} from the cache"


def _write_parts(work: Work) -> tuple[Path, ...]:
    """Objects of what is no kernel and does not depend on kernels."""
    content = work.folder / "weights.bin"
    work.weights.write(content)
    weights = sections.write_weights(content, sections.weights_symbol(work.functions), work.tools)
    content.unlink()
    parts = (weights, pool.write_object(work.folder, work.tools, work.cache))
    return parts if work.tables is None else (*parts, standalone.write_runtime(work))


def link(work: Work) -> str:
    """Write the library into the work folder."""
    work.manifest = build_manifest(work)
    files = [*work.parts, *work.objects.files]
    manifest = sections.write_manifest(work.manifest, work.folder, work.tools)
    work.library = work.folder / "model.so"
    if work.tables is None:
        bytecode.link(work, [manifest, *files])
        found = ""
    else:
        found = standalone.link(work, manifest, files)
    size = f"{work.library.stat().st_size / 1e6:.1f} MB"
    return f"{size}; {found}" if found else size


def shown_ir(work: Work, stage: str) -> str:
    """What `--dump` writes after a stage: ONNX, Relax and TIR, or the assembly."""
    if work.objects is not None:
        return _assembly(work) if stage == "codegen" else str(work.manifest)
    if work.mod is not None:
        return work.mod.script(show_meta=False)
    return onnx.printer.to_text(work.model.proto)


def _assembly(work: Work) -> str:
    """The kernels once more, as text and under the names that the model calls them by."""
    modules = [built(f, name, work.tvm_target) for name, f in kernels_of(work.mod).items()]
    return "\n".join(module.inspect_source("asm") for module in modules)
