"""Weights outside the model's file: missing, too short, or where they must not be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests import models
from tests.command_line import refused
from tilewright.errors import ModelError, UnsupportedModel


def _external(folder: Path, **entries: str) -> Path:
    """`models.linear()` with its weight in weights.bin; `entries` override what it says."""
    proto = models.linear()
    tensor = proto.graph.initializer[0]
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    told = {"location": "weights.bin", "offset": "0", "length": str(len(tensor.raw_data))}
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {**told, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    path = folder / "external.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


EXTERNAL = {
    "absolute": ({"location": "/etc/hostname"}, ["inside the model's own folder", "/etc/hostname"]),
    "parent": ({"location": "../weights.bin"}, ["inside the model's own folder", "without '..'"]),
    "hidden_parent": ({"location": "a/../../weights.bin"}, ["inside the model's own folder"]),
    "windows_parent": ({"location": "..\\weights.bin"}, ["inside the model's own folder"]),
    "windows_drive": ({"location": "C:\\weights.bin"}, ["inside the model's own folder"]),
    "no_location": ({"location": ""}, ["inside the model's own folder"]),
    "missing": ({"location": "gone.bin"}, ["external data is missing", "'gone.bin'", "copy"]),
    "past_the_end": ({"offset": "4096"}, ["ends before the tensor does", "12288", "8192"]),
    "bad_offset": ({"offset": "-4"}, ["offset is '-4'", "a number of bytes"]),
    "offset_of_digits": ({"offset": "9" * 6000}, ["offset is '9999"]),
    "offset_of_other_digits": ({"offset": "²"}, ["offset is '²'"]),
    "offset_text": ({"offset": "0x10"}, ["offset is '0x10'"]),
    "wrong_length": ({"length": "100"}, ["100 bytes", "8192 bytes for [64, 32] of float32"]),
}


@pytest.mark.parametrize("case", EXTERNAL)
def test_refuses_external_data(case, tmp_path, nothing_left):
    entries, says = EXTERNAL[case]
    refused(ModelError, "compile", _external(tmp_path, **entries), says=["'w'", *says])


def test_refuses_external_data_behind_a_link(tmp_path, nothing_left):
    path = _external(tmp_path, location="link.bin")
    (tmp_path / "link.bin").symlink_to(tmp_path / "weights.bin")
    refused(ModelError, "compile", path, says=["without links"])


def test_refuses_external_data_behind_a_linked_folder(tmp_path, nothing_left):
    path = _external(tmp_path, location="link/weights.bin")
    (tmp_path / "link").symlink_to(tmp_path)
    refused(ModelError, "compile", path, says=["without links"])


def test_refuses_truncated_external_data(tmp_path, nothing_left):
    path = _external(tmp_path)
    os.truncate(tmp_path / "weights.bin", 100)
    refused(ModelError, "compile", path, says=["which has 100", "truncated"])


def test_refuses_external_data_in_a_constant_node(tmp_path, nothing_left):
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [2, 3], bytes(24), raw=True)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    proto = models.model(
        [
            helper.make_node("Constant", [], ["c"], name="outside", value=tensor),
            helper.make_node("Add", ["x", "c"], ["y"]),
        ],
        [models.value("x", (2, 3))],
        [models.value("y", (2, 3))],
    )
    path = tmp_path / "constant.onnx"
    path.write_bytes(proto.SerializeToString())
    refused(UnsupportedModel, "compile", path, says=["outside (Constant)", "outside the file"])
