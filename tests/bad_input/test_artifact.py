"""Libraries and bundles that are damaged, or made for something else."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

import tilewright
from tests import models
from tests.command_line import command, refused
from tests.compiling import compile_here
from tilewright.compiler import runtime, sections
from tilewright.errors import ArtifactError, OptionError
from tilewright.targets import resolve


def _patched(library: Path, folder: Path, change) -> Path:
    """A copy of `library` whose manifest went through `change`; padded to its old length."""
    manifest = sections.read_manifest(library)
    before = json.dumps(manifest).encode()
    change(manifest)
    after = json.dumps(manifest).encode()
    data = library.read_bytes()
    assert data.count(before) == 1 and len(after) <= len(before)
    path = folder / "patched.so"
    path.write_bytes(data.replace(before, after.ljust(len(before))))
    return path


def _drop_titles(manifest: dict) -> None:
    """Make room for longer facts elsewhere."""
    manifest["target"]["title"] = manifest["target"]["source"] = ""
    manifest["options"] = {}


def test_refuses_an_artifact_that_is_no_library(tmp_path, nothing_left):
    (tmp_path / "no.so").write_bytes(b"just bytes")
    refused(
        ArtifactError, "run", tmp_path / "no.so", says=["damaged, or is no shared library", "no.so"]
    )


def test_refuses_a_missing_artifact(nothing_left):
    refused(ArtifactError, "run", "gone.so", says=["no such file", "a compiled .so"])


def test_refuses_somebody_elses_library(nothing_left):
    path = Path(sys.executable).resolve()
    refused(ArtifactError, "run", path, says=["not written by Tilewright", ".tilewright.manifest"])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_refuses_a_truncated_artifact(share, linear_library, tmp_path, nothing_left):
    data = linear_library.read_bytes()
    path = tmp_path / "half.so"
    path.write_bytes(data[: int(len(data) * share)])
    refused(ArtifactError, "run", path, says=["half.so"])


def test_refuses_an_artifact_for_another_machine(linear_library, tmp_path):
    def change(manifest: dict) -> None:
        _drop_titles(manifest)
        manifest["target"] = resolve("aarch64").to_dict()

    with pytest.raises(ArtifactError, match="the artifact is for aarch64") as info:
        tilewright.load(_patched(linear_library, tmp_path, change))
    assert "x86_64, which this machine is" in info.value.expected


def test_refuses_an_artifact_of_another_tvm(tmp_path):
    library = compile_here(models.linear(), tmp_path, disable=("tables",)).library

    def change(manifest: dict) -> None:
        manifest["versions"]["apache-tvm"] = "0.9.0"

    with pytest.raises(ArtifactError, match=r"apache-tvm .* is installed") as info:
        tilewright.load(_patched(library, tmp_path, change))
    assert "0.9.x" in info.value.expected and "pip install" in info.value.hint


def test_refuses_an_artifact_of_another_format(linear_library, tmp_path):
    path = _patched(linear_library, tmp_path, lambda manifest: manifest.update(format=9))
    with pytest.raises(ArtifactError, match="artifact format 9"):
        tilewright.load(path)


def test_refuses_an_artifact_without_threads(linear_library, tmp_path):
    data = linear_library.read_bytes()
    path = tmp_path / "older.so"
    path.write_bytes(data.replace(b"tilewright_share_workers", b"tilewright_share_nothing"))
    with pytest.raises(ArtifactError, match="thread pool is missing") as info:
        tilewright.load(path)
    assert "compile the model again" in info.value.hint


def test_refuses_a_damaged_manifest(linear_library, tmp_path):
    data = linear_library.read_bytes()
    path = tmp_path / "damaged.so"
    path.write_bytes(data.replace(b'{"format":', b"?!format?!", 1))
    with pytest.raises(ArtifactError, match="manifest is damaged"):
        tilewright.load(path)


def test_refuses_code_this_cpu_lacks_before_mapping_it(tmp_path, monkeypatch):
    library = compile_here(models.linear(), tmp_path, target="x86-64-avx512").library
    known = runtime.host.detect()
    few = frozenset(f for f in known.features if not f.startswith("avx512"))
    monkeypatch.setattr(runtime.host, "detect", lambda: dataclasses.replace(known, features=few))
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda *_: pytest.fail("the code was mapped"))
    with pytest.raises(ArtifactError, match="this CPU lacks avx512f") as info:
        tilewright.load(library)
    assert "x86-64-avx512" in info.value.expected and "-t native" in info.value.hint


def test_verify_needs_a_reference_for_an_artifact(linear_library, nothing_left):
    refused(
        OptionError,
        "verify",
        linear_library,
        says=["nothing to be compared with", "--model MODEL.onnx"],
    )


def test_verify_says_that_the_reference_is_missing(linear_library, nothing_left):
    refused(
        ArtifactError,
        "verify",
        linear_library,
        "--model",
        "gone.onnx",
        says=["reference model is missing", "gone.onnx"],
    )


@pytest.fixture
def bundle(model_file, here) -> Path:
    assert command("compile", model_file(models.linear()), "-q", "--bundle", "bundle") == 0
    return here / "bundle"


def test_a_bundle_with_a_changed_file_is_refused_by_name(bundle):
    assert tilewright.verify(bundle).passed
    with (bundle / "golden_outputs.npz").open("ab") as file:
        file.write(b"!")
    refused(ArtifactError, "verify", bundle, says=["was changed", "golden_outputs.npz", "SHA-256"])
    (bundle / "run.py").unlink()
    (bundle / "golden_outputs.npz").unlink()
    refused(ArtifactError, "verify", bundle, says=["missing", "golden_outputs.npz"])
    (bundle / "manifest.json").write_text("[]")
    refused(ArtifactError, "verify", bundle, says=["not a bundle", "--bundle"])


def test_a_new_bundle_replaces_an_older_one(bundle, model_file):
    before = (bundle / "manifest.json").read_text()
    assert command("compile", model_file(models.conv_net()), "-q", "--bundle", bundle) == 0
    assert (bundle / "manifest.json").read_text() != before
    assert tilewright.verify(bundle).passed
