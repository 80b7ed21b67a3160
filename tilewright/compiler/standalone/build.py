"""The last stages of a standalone library: tables, kernels, C, and one library with all inside."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.compiler import build, pool, sections
from tilewright.compiler.inspection import inspect
from tilewright.compiler.kernels import compile_kernels, kernels_of
from tilewright.compiler.manifest import build_manifest
from tilewright.compiler.standalone.emit import FOLDER, header, source, weights_symbol
from tilewright.compiler.standalone.names import check_prefix
from tilewright.compiler.standalone.plan import plan_of
from tilewright.targets import host

if TYPE_CHECKING:
    from tilewright.compiler.pipeline import Work

# What TVM puts before the name of a kernel.
_KERNEL = "__tvm_ffi_{}"
# What a program sees of a library; the pool's let several libraries share their workers.
_EXPORTED = "{{ global: {prefix}_*; tilewright_launch; tilewright_set_threads; \
tilewright_share_workers; local: *; }};\n"


def make_tables(work: Work) -> None:
    """Turn the planned `main` into tables. Raises UnsupportedModel for what needs TVM's VM."""
    check_prefix(work.options.standalone)
    offsets = [row["offset"] for row in work.weights.rows()]
    inputs = len(work.interface["inputs"])
    work.tables = plan_of(work.mod["main"], list(work.bounds), inputs, offsets)
    for row in work.interface["outputs"]:
        row["owned"] = True


def generate_code(work: Work) -> str:
    """Compile every kernel with LLVM unless the cache has it, and the tables as C."""
    folder = work.folder / "kernels"
    folder.mkdir()
    with ThreadPoolExecutor(1) as executor:
        parts = executor.submit(_write_parts, work)
        work.objects = compile_kernels(kernels_of(work.mod), work.tvm_target, folder, work.cache)
        parts = parts.result()
    work.parts = (_write_plan(work), *parts)
    names = set(work.kernels)
    return f"{len(names)} kernels, {len(names & work.objects.cached)} from the cache"


def _write_parts(work: Work) -> tuple[Path, ...]:
    """Objects of what is no kernel and does not depend on kernels."""
    runtime = work.folder / "runtime.o"
    work.tools.compile_c(FOLDER / "runtime.c", runtime)
    weights = build.write_weights(work, weights_symbol(work.options.standalone))
    return weights, pool.write_object(work.folder, work.tools), runtime


def _write_plan(work: Work) -> Path:
    prefix = work.options.standalone
    symbols = {name: work.objects.symbols[_KERNEL.format(name)] for name in work.kernels}
    threads = work.options.threads or 0
    written = work.folder / f"{prefix}.c"
    written.write_text(source(prefix, work.tables, work.interface, symbols, threads))
    (work.folder / f"{prefix}.h").write_text(header(prefix, work.interface))
    work.tools.compile_c(written, written.with_suffix(".o"), FOLDER)
    return written.with_suffix(".o")


def link(work: Work) -> str:
    """Write the library, its archive and its header into the work folder."""
    prefix = work.options.standalone
    work.manifest = build_manifest(work)
    manifest = sections.write_manifest(work.manifest, work.folder, work.tools)
    files = [manifest, *work.parts, *work.objects.files]
    exported = work.folder / "exported.map"
    exported.write_text(_EXPORTED.format(prefix=prefix))
    work.library = work.folder / "model.so"
    work.tools.link_shared(work.library, files, exported=exported)
    work.tools.archive(work.folder / "model.a", files)
    size = f"{work.library.stat().st_size / 1e6:.1f} MB"
    if work.target.machine.is_here(host.detect().machine):
        return size
    private = [str(work.folder), str(Path.home()), sys.prefix]
    objects = [path for path in files if path != manifest]
    return f"{size}; {inspect(work.library, objects, work.target, work.tools.glibc, private)}"
