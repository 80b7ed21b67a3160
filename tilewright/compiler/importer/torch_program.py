"""PyTorch programs (`torch.export.save`, .pt2) as ONNX files, through PyTorch's own exporter.

Not through Relax's front end for them: its graphs are the same or larger, and slower then
(docs/pytorch.md has the figures), and ONNX is what names, checks and the reference speak of.
Source: https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/export/pt2_archive.html
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from tilewright.compiler import child
from tilewright.compiler.artifact import sha256_of
from tilewright.errors import ModelError, OptionError, TilewrightError, UnsupportedModel

_INSTALL = "pip install 'tilewright[torch]'"
_SAVE = "torch.export.save(torch.export.export(model, inputs), 'model.pt2')"


def as_onnx(path: Path, progress: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """`path`, or the ONNX file of the PyTorch program that is in it.

    What was exported before, by the same PyTorch, is taken from the user's cache folder. Raises
    ModelError for another file of PyTorch's, OptionError without PyTorch, and UnsupportedModel
    where its exporter refuses the program.
    """
    if not is_program(path):
        return path
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError as error:
        raise OptionError(
            "a program of PyTorch's needs PyTorch to be read", where=str(path), hint=_INSTALL
        ) from error
    key = f"{sha256_of(path)[:32]}-torch{version}"
    folder = Path(platformdirs.user_cache_dir("tilewright")) / "exports" / key
    made = folder / f"{path.stem}.onnx"
    if not made.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=folder.parent))
        try:
            job = {"path": str(path.resolve()), "onnx": str(temporary / made.name)}
            name = "tilewright.compiler.importer.torch_program:export_job"
            child.call(name, job, progress, doing="exporting")
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return made


def is_program(path: Path) -> bool:
    """Whether a file holds an exported program, by its content.

    Raises ModelError for what PyTorch saves otherwise, weights or TorchScript, and for a .pt2 file
    that holds none.
    """
    if not path.is_file():
        return False
    names = []
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return True
    if "data.pkl" in names:
        raise ModelError(
            "this holds weights or TorchScript, and no program of torch.export",
            where=str(path),
            expected="an .onnx file, or a .pt2 file",
            hint=_SAVE,
        )
    if path.suffix == ".pt2":
        raise ModelError(
            "the file is no program of PyTorch's, or it is truncated",
            where=str(path),
            expected="what torch.export.save writes",
            hint=_SAVE,
        )
    return False


def export_job(job: dict[str, Any], emit: Callable[..., None]) -> None:
    """What the child process does: read the program, and write it as ONNX."""
    emit("start", step="export")
    begin = time.perf_counter()
    try:
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it and says so less plainly
        import torch
    except ImportError as error:
        raise OptionError(
            f"a program of PyTorch's cannot be read: {error}", where=job["path"], hint=_INSTALL
        ) from error
    try:
        program = torch.export.load(job["path"])
    except Exception as error:
        raise ModelError(
            f"PyTorch {torch.__version__} cannot read the program: {_text(error)}",
            where=job["path"],
            hint=f"write it again with this PyTorch: {_SAVE}",
        ) from error
    try:
        overwritten = _overwritten_inputs(program, job["path"])
        torch.onnx.export(program, (), job["onnx"], dynamo=True, verbose=False)
    except TilewrightError:
        raise
    except Exception as error:
        why = [error]
        while why[-1].__cause__ is not None:
            why.append(why[-1].__cause__)
        # Outermost is advice on how to report it; then the operator's node, and what is wrong.
        node = f", {_text(why[-2])}" if len(why) > 2 else ""
        raise UnsupportedModel(
            f"PyTorch cannot write the program as ONNX: {_text(why[-1])}",
            where=f"{job['path']}{node}",
            hint="torch.onnx.export(program, (), dynamo=True, report=True) says more",
        ) from error
    note = f"PyTorch {torch.__version__} to ONNX"
    if overwritten:
        note += f"; what it writes into {', '.join(overwritten)} is not handed back"
    emit("done", step="export", seconds=time.perf_counter() - begin, note=note)


def _overwritten_inputs(program: Any, path: str) -> list[str]:
    """The inputs that a program writes into.

    Raises UnsupportedModel where it writes into its buffers: ONNX knows no state, and the exporter
    would leave that out without a word. Batch normalisation in training mode is the usual case.
    """
    # Only in the functional form does the signature say so.
    signature = program.run_decompositions({}).graph_signature
    if signature.buffers_to_mutate:
        names = sorted(signature.buffers_to_mutate.values())
        shown = ", ".join(names[:3]) + (f", and {len(names) - 3} more" if names[3:] else "")
        raise UnsupportedModel(
            f"the program changes its buffers with each run: {shown}",
            where=path,
            expected="a program whose results are its outputs alone",
            hint="call model.eval() before torch.export.export; take state as an input, and return "
            "the new one",
        )
    return sorted(signature.user_inputs_to_mutate.values())


def _text(error: BaseException) -> str:
    return " ".join(str(error).replace("See the stack trace for more information.", "").split())[
        :300
    ]
