"""A model that TVM's VM runs: `main` as bytecode, and the library with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import tvm
from tvm import relax

from tilewright.compiler.kernels import without_kernels
from tilewright.errors import UnsupportedModel
from tilewright.passes.graphs import graphs

if TYPE_CHECKING:
    from tilewright.compiler.pipeline import Work


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


def link(work: Work, files: list[Path]) -> None:
    """Write the library, with `files` in it."""

    def link_files(output: str, files: list[str], **_kwargs: object) -> None:
        work.tools.link_shared(Path(output), [Path(file) for file in files], work.objects.symbols)

    # The bytecode is packed for the target too, which need not be this machine.
    link_files.get_target_triple = lambda: work.target.triple
    objects = work.folder / "objects"
    objects.mkdir()
    work.executable.export_library(
        str(work.library),
        fcompile=link_files,
        addons=[str(path) for path in files],
        workspace_dir=str(objects),
    )
