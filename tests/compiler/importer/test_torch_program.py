"""PyTorch itself is not among the packages of the tests: where it is, a program is exported."""

from __future__ import annotations

import sys
import zipfile
from importlib import metadata

import numpy as np
import pytest

from tests import models
from tests.compiling import module_of
from tilewright.compiler.importer import torch_program
from tilewright.compiler.importer.torch_program import as_onnx, export_job, is_program
from tilewright.errors import ModelError, OptionError


def _archive(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"model/{name}", "pt2")
    return path


def test_other_files_are_left_alone(tmp_path, model_file):
    path = model_file(models.linear())
    assert as_onnx(path) == path
    assert as_onnx(tmp_path / "missing.onnx") == tmp_path / "missing.onnx"
    assert not is_program(_archive(tmp_path / "other.zip", "readme.txt"))


@pytest.mark.parametrize("name", ["archive_format", "serialized_exported_program.json"])
def test_a_program_is_told_by_its_content(name, tmp_path):
    assert is_program(_archive(tmp_path / "m.anything", name))


def test_weights_are_no_program(tmp_path):
    with pytest.raises(ModelError, match="weights or TorchScript") as caught:
        as_onnx(_archive(tmp_path / "m.pt", "data.pkl"))
    assert "torch.export.save" in caught.value.hint


def test_without_pytorch_the_install_command_is_named(tmp_path, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(torch_program.metadata, "version", missing)
    path = _archive(tmp_path / "m.pt2", "archive_format")
    with pytest.raises(OptionError, match="needs PyTorch") as caught:
        as_onnx(path)
    assert "tilewright[torch]" in caught.value.hint
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(OptionError, match="cannot be read"):
        export_job({"path": str(path), "onnx": "m.onnx"}, lambda *_, **__: None)


def test_an_export_is_made_once_whole_or_not_at_all(tmp_path, monkeypatch):
    calls = []

    def export(name, job, progress, doing):
        calls.append(job)
        with open(job["onnx"], "wb") as file:
            file.write(b"onnx")
        if len(calls) == 1:
            raise ModelError("the exporter fails")

    monkeypatch.setattr(torch_program.metadata, "version", lambda name: "2.13.0")
    monkeypatch.setattr(torch_program.platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    monkeypatch.setattr(torch_program.child, "call", export)
    path = _archive(tmp_path / "net.pt2", "archive_format")
    with pytest.raises(ModelError, match="the exporter fails"):
        as_onnx(path)
    assert not list((tmp_path / "exports").iterdir())
    made = as_onnx(path)
    assert made.name == "net.onnx" and made.read_bytes() == b"onnx"
    assert as_onnx(path) == made and len(calls) == 2


def test_a_program_of_pytorch_gives_its_numbers(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(torch_program.platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.SiLU()).eval()
    x = torch.randn(2, 3, 8, 9)
    batch = torch.export.Dim("batch")
    program = torch.export.export(net, (x,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    module = module_of(as_onnx(tmp_path / "net.pt2"), tmp_path)
    assert list(module.manifest["dims"])
    for rows in (2, 5):
        x = torch.randn(rows, 3, 8, 9)
        np.testing.assert_allclose(module(x.numpy()), net(x).detach().numpy(), atol=1e-5)
