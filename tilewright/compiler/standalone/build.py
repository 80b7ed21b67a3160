"""A library that runs without TVM: the planned graph as tables, written in C beside its kernels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.compiler.c_objects import compile_c
from tilewright.compiler.inspection import inspect
from tilewright.compiler.sections import weights_symbol
from tilewright.compiler.standalone.emit import FOLDER, header, source
from tilewright.compiler.standalone.names import check_prefix
from tilewright.compiler.standalone.plan import Plan, plan_of
from tilewright.targets import host

if TYPE_CHECKING:
    from tilewright.compiler.pipeline import Work

# What TVM puts before the name of a kernel.
_KERNEL = "__tvm_ffi_{}"
# What a program sees of a library; the pool's let several libraries share their workers.
_EXPORTED = "{{ global: {prefix}_*; {weights}; tilewright_launch; tilewright_set_threads; \
tilewright_share_workers; local: *; }};\n"


def tables_of(work: Work) -> Plan:
    """The planned `main` as tables. Raises UnsupportedModel for what needs TVM's VM."""
    offsets = [row["offset"] for row in work.weights.rows()]
    return plan_of(work.mod, list(work.bounds), len(work.interface["inputs"]), offsets)


def write_runtime(work: Work) -> Path:
    """An object of what walks the tables."""
    source, headers = FOLDER / "runtime.c", (FOLDER / "runtime.h",)
    return compile_c(source, work.folder / "runtime.o", work.tools, work.cache, headers)


def write_tables(work: Work) -> Path:
    """An object of the tables, whose kernels are compiled; the header comes beside it."""
    prefix = check_prefix(work.functions)
    symbols = {name: work.objects.symbols[_KERNEL.format(name)] for name in work.kernels}
    threads = work.options.threads or 0
    written = work.folder / f"{prefix}.c"
    written.write_text(source(prefix, work.tables, work.interface, symbols, threads))
    (work.folder / f"{prefix}.h").write_text(header(prefix, work.interface))
    work.tools.compile_c(written, written.with_suffix(".o"), FOLDER)
    return written.with_suffix(".o")


def link(work: Work, manifest: Path, files: Sequence[Path]) -> str:
    """Write the library, and the archive of one that is asked for; what a look inside found.

    `files` are all objects but the manifest's.
    """
    exported = work.folder / "exported.map"
    weights = weights_symbol(work.functions)
    exported.write_text(_EXPORTED.format(prefix=work.functions, weights=weights))
    work.tools.link_shared(work.library, [manifest, *files], exported=exported)
    if work.options.standalone:
        work.tools.archive(work.library.with_suffix(".a"), [manifest, *files])
    if work.target.machine.is_here(host.detect().machine):
        return ""
    private = [str(work.folder), str(Path.home()), sys.prefix]
    return inspect(work.library, files, work.target, work.tools.glibc, private)
