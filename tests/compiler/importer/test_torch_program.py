"""PyTorch itself is not among the packages of the tests: where it is, a program is exported."""

from __future__ import annotations

import sys
import zipfile
from importlib import metadata

import numpy as np
import pytest

import tilewright
from tests import models
from tests.compiling import module_of
from tilewright.compiler.artifact import sha256_of
from tilewright.compiler.importer import torch_program
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.torch_program import as_onnx, export_job, is_program
from tilewright.errors import ModelError, OptionError, UnsupportedModel


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


@pytest.mark.parametrize("content", [b"", b"no archive at all\n", b"PK\x03\x04 cut off"])
def test_a_pt2_file_that_holds_no_program(content, tmp_path):
    (tmp_path / "m.pt2").write_bytes(content)
    with pytest.raises(ModelError, match="no program of PyTorch's, or it is truncated"):
        as_onnx(tmp_path / "m.pt2")


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


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Saves the program of a network, and keeps its export beside it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(torch_program.platformdirs, "user_cache_dir", lambda name: str(tmp_path))

    def save(net, *inputs, dims=None):
        program = torch.export.export(net, inputs, dynamic_shapes=dims)
        torch.export.save(program, tmp_path / "net.pt2")
        return tmp_path / "net.pt2"

    return save


def test_a_program_of_pytorch_gives_its_numbers(saved, tmp_path):
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.SiLU()).eval()
    batch = torch.export.Dim("batch")
    path = saved(net, torch.randn(2, 3, 8, 9), dims=({0: batch},))
    model = load(path)
    assert model.path == path and model.sha256 == sha256_of(path)
    module = module_of(path, tmp_path)
    assert module.manifest["model"]["file"] == "net.pt2"
    assert list(module.manifest["dims"])
    for rows in (2, 5):
        x = torch.randn(rows, 3, 8, 9)
        np.testing.assert_allclose(module(x.numpy()), net(x).detach().numpy(), atol=1e-5)


def test_the_front_door_says_the_users_name(saved):
    torch = pytest.importorskip("torch")
    path = saved(torch.nn.Linear(4, 3).eval(), torch.randn(2, 4))
    events = []
    artifact = tilewright.compile(path, cache=False, progress=events.append)
    done = [event for event in events if event["event"] == "done"]
    assert done[0]["step"] == "export" and all("seconds" in event for event in done)
    assert artifact.check["subject"] == artifact.manifest["model"]["file"] == "net.pt2"
    library = artifact.save(path.with_suffix(".so"))
    proof = tilewright.verify(library, model=path, examples=2)
    assert proof.passed and proof.subject == "net.pt2"
    measured = tilewright.bench(library, model=path, seconds=0.1)
    assert set(measured["engines"]) == {"tilewright", "onnxruntime"}


def test_state_is_refused_and_a_written_input_is_told(saved):
    torch = pytest.importorskip("torch")

    class Adds(torch.nn.Module):
        def forward(self, x):
            return x.add_(1) * 2

    with pytest.raises(UnsupportedModel, match=r"changes its buffers .*running_mean") as caught:
        as_onnx(saved(torch.nn.BatchNorm2d(3).train(), torch.randn(2, 3, 4, 4)))
    assert "model.eval()" in caught.value.hint
    events = []
    as_onnx(saved(Adds(), torch.randn(3)), events.append)
    assert "writes into x is not handed back" in events[-1]["note"]


def test_what_the_exporter_refuses_is_named(saved):
    torch = pytest.importorskip("torch")

    class Bessel(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    with pytest.raises(UnsupportedModel, match="No ONNX function found") as caught:
        as_onnx(saved(Bessel(), torch.randn(3)))
    assert "%bessel_j0" in caught.value.where


def test_a_damaged_program_is_no_fault_of_ours(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(torch_program.platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    with pytest.raises(ModelError, match="cannot read the program"):
        as_onnx(_archive(tmp_path / "m.pt2", "archive_format"))
