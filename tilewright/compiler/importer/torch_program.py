"""PyTorch programs (`torch.export.save`, .pt2) as ONNX files, through PyTorch's own exporter.

Not through Relax's front end for them: ONNX is what names, checks and localising speak of, and what
the reference runs (benchmarks/torch_import.py compares both).
Source: https://docs.pytorch.org/docs/stable/user_guide/torch_compiler/export/pt2_archive.html
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from tilewright.compiler import child
from tilewright.errors import ModelError, OptionError, UnsupportedModel

_INSTALL = "pip install 'tilewright[torch]'"


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
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else None
        key = (digest or hashlib.sha256(file.read())).hexdigest()[:32]
    folder = Path(platformdirs.user_cache_dir("tilewright")) / "exports" / f"{key}-torch{version}"
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

    Raises ModelError for what PyTorch saves otherwise: weights, or TorchScript.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = [name.rpartition("/")[2] for name in archive.namelist()]
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return True
    if "data.pkl" in names:
        raise ModelError(
            "this holds weights or TorchScript, and no program of torch.export",
            where=str(path),
            expected="an .onnx file, or a .pt2 file",
            hint="torch.export.save(torch.export.export(model, inputs), 'model.pt2')",
        )
    return False


def export_job(job: dict[str, Any], emit: Callable[..., None]) -> None:
    """What the child process does: read the program, and write it as ONNX."""
    emit("start", step="PyTorch to ONNX")
    try:
        import onnxscript  # noqa: F401 - PyTorch's exporter needs it and says so less plainly
        import torch
    except ImportError as error:
        raise OptionError(
            f"a program of PyTorch's cannot be read: {error}", where=job["path"], hint=_INSTALL
        ) from error
    try:
        program = torch.export.load(job["path"])
        torch.onnx.export(program, (), job["onnx"], dynamo=True, verbose=False)
    except Exception as error:
        raise UnsupportedModel(
            f"PyTorch cannot write the program as ONNX: {' '.join(str(error).split())[:300]}",
            where=job["path"],
            hint="torch.onnx.export(..., dynamo=True, report=True) says more",
        ) from error
    emit("done", step="PyTorch to ONNX")
