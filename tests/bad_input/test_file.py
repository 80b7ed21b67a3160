"""Files that hold no ONNX model, or one we cannot read."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.command_line import refused, spawn
from tilewright.errors import ModelError, UnsupportedModel

GOOD = models.linear().SerializeToString()


def _ir(number: int) -> bytes:
    proto = models.linear()
    proto.ir_version = number
    return proto.SerializeToString()


def _opset(number: int) -> bytes:
    proto = models.linear()
    proto.opset_import[0].version = number
    return proto.SerializeToString()


def _nested() -> bytes:
    """Two hundred messages inside each other where a graph's node is."""

    def field(number: int, data: bytes) -> bytes:
        size, count = b"", len(data)
        while count > 127:
            size, count = size + bytes([count & 127 | 128]), count >> 7
        return bytes([number << 3 | 2]) + size + bytes([count]) + data

    node = b""
    for _ in range(70):
        node = field(5, field(6, field(1, node)))
    return GOOD + field(7, field(1, node))


BAD_FILES = {
    "empty": (b"", ModelError, ["the file is empty"]),
    "truncated": (GOOD[: len(GOOD) // 2], ModelError, ["truncated", "hint: if it was downloaded"]),
    "random_bytes": (np.random.default_rng(0).bytes(4096), ModelError, ["not an ONNX model"]),
    "text": (b"import torch\nmodel = 1\n", ModelError, ["not an ONNX model", "onnx.ModelProto"]),
    "html": (b"<!DOCTYPE html><html>404</html>", ModelError, ["not an ONNX model"]),
    "zip": (b"PK\x03\x04" + bytes(200), ModelError, ["not an ONNX model"]),
    "other_protobuf": (
        helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0]).SerializeToString(),
        ModelError,
        ["ONNX"],
    ),
    "nested": (_nested(), UnsupportedModel, ["nested too deeply", "inside each other"]),
    "future_ir": (_ir(99), UnsupportedModel, ["IR version 99", f"3 to {onnx.IR_VERSION}"]),
    "ancient_ir": (_ir(1), UnsupportedModel, ["IR version 1", "export the model again"]),
    "future_opset": (_opset(99), UnsupportedModel, ["operator set version 99", "older opset"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_refuses_the_file(case, model_file, nothing_left):
    data, kind, says = BAD_FILES[case]
    refused(kind, "compile", model_file(data), "-q", says=says)


@pytest.mark.parametrize("use", ["compile", "verify", "inspect", "bench"])
def test_every_command_says_that_the_file_is_missing(use, nothing_left):
    refused(ModelError, use, "absent.onnx", says=["no such file", "absent.onnx"])


def test_a_missing_model_is_answered_with_the_models_beside_it(model_file, nothing_left):
    path = model_file(GOOD, "resnet.onnx")
    refused(ModelError, "compile", path.with_name("resent.onnx"), says=["resnet.onnx"])


def test_refuses_a_folder_as_model(tmp_path, nothing_left):
    (tmp_path / "folder.onnx").mkdir()
    refused(ModelError, "compile", tmp_path / "folder.onnx", says=["not a file", ".onnx file"])


def test_the_sentence_reaches_the_shell_with_exit_code_2(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    done = spawn("compile", "bad.onnx", cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 2 and done.stdout == ""
    assert "error: the file is not an ONNX model" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]
