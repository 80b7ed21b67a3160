"""Weights kept outside the ONNX file: read only from inside the model's own folder.

A model file is untrusted. Absolute paths, `..`, and links that lead elsewhere would let it
read any file of the user; offsets past the end would read nothing and call it weights.
"""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from onnx import helper

from tilewright.errors import ModelError, UnsupportedModel


def location(tensor: onnx.TensorProto) -> str:
    """The file that an initialiser names for its data, as the model writes it."""
    return next((e.value for e in tensor.external_data if e.key == "location"), "")


def read(tensor: onnx.TensorProto, folder: Path) -> np.ndarray:
    """The values of an initialiser whose data is external; a read-only view of the file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _contained(location(tensor), folder, tensor.name)
    where = f"initialiser {tensor.name!r}, external data {file.name}"
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError as error:
        raise ModelError(f"unknown data type {tensor.data_type}", where=where) from error
    if tensor.data_type == onnx.TensorProto.STRING or dtype.itemsize * 8 != _bits(tensor.data_type):
        raise UnsupportedModel(
            f"external data of type {onnx.TensorProto.DataType.Name(tensor.data_type)}", where=where
        )
    count = math.prod(tensor.dims)
    offset = _number(entries, "offset", 0, where)
    length = _number(entries, "length", count * dtype.itemsize, where)
    size = file.stat().st_size
    if length != count * dtype.itemsize:
        raise ModelError(
            f"external data is {length} bytes",
            where=where,
            expected=f"{count * dtype.itemsize} bytes for {list(tensor.dims)} of {dtype}",
        )
    if offset + length > size:
        raise ModelError(
            "external data ends before the tensor does",
            where=f"{where}, offset {offset}",
            expected=f"at least {offset + length} bytes in the file, which has {size}",
            hint="the file is truncated or belongs to another model: copy it again",
        )
    flat = np.memmap(file, dtype, "r", offset, (count,)) if count else np.empty(0, dtype)
    return flat.reshape(tuple(tensor.dims))


def _contained(location: str, folder: Path, name: str) -> Path:
    where = f"initialiser {name!r}, external data {location!r}"
    unsafe = (
        not location
        or PurePosixPath(location).is_absolute()
        or PureWindowsPath(location).is_absolute()
        or ".." in PurePosixPath(location.replace("\\", "/")).parts
    )
    path = folder / location
    if unsafe or _leads_through_link(path, folder):
        raise ModelError(
            "external data must lie inside the model's own folder",
            where=where,
            expected="a relative path without '..' and without links",
            hint="only open models you trust; save the model again with relative locations",
        )
    if not path.is_file():
        raise ModelError(
            "external data is missing",
            where=where,
            expected=f"a file {location!r} in {folder}",
            hint="copy the data file beside the .onnx file",
        )
    return path


def _leads_through_link(path: Path, folder: Path) -> bool:
    steps = [path, *path.parents]
    inside = steps[: steps.index(folder)] if folder in steps else steps
    return any(step.is_symlink() for step in inside)


def _bits(data_type: int) -> int:
    packed = {"INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2, "FLOAT4E2M1": 4}
    name = onnx.TensorProto.DataType.Name(data_type)
    return packed.get(name, helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8)


def _number(entries: dict[str, str], key: str, default: int, where: str) -> int:
    if key not in entries:
        return default
    text = entries[key]
    # Not isdigit(): it takes digits that int() does not, and int() refuses thousands of them.
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ModelError(f"{key} is {text[:40]!r}", where=where, expected="a number of bytes")
    return int(text)
