from __future__ import annotations

import json

import numpy as np
import pytest

from tests import models
from tests.compiling import compile_here
from tilewright.compiler import sections
from tilewright.compiler.artifact import (
    Artifact,
    check_library_name,
    check_writable,
    read_bundle,
    replacing,
    save_arrays,
    sha256_of,
)
from tilewright.compiler.standalone import program
from tilewright.errors import ArtifactError, OptionError, OutputError


@pytest.fixture
def artifact(tmp_path):
    work = compile_here(models.linear(), tmp_path)
    golden = tmp_path / "golden"
    golden.mkdir()
    for side in ("inputs", "outputs"):
        save_arrays(golden / f"golden_{side}.npz", {"x": np.ones(3)})
    example = {"dims": {}, "verdicts": [{"name": "y", "allowed": 1e-5}]}
    check = {"passed": True, "examples": [example]}
    return Artifact(work.library, work.manifest, check=check, golden=golden)


def test_saves_an_executable_library(artifact, tmp_path):
    path = artifact.save(tmp_path / "my.model.so")
    assert path.read_bytes() == artifact.library.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o755


def test_saves_into_the_current_folder(artifact, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    artifact.save("m.so")
    assert [p.name for p in (tmp_path / "cwd").iterdir()] == ["m.so"]


@pytest.mark.parametrize("name", ["model", "model.dll", "model.so.1", ".so"])
def test_a_library_is_called_so(name, tmp_path):
    with pytest.raises(OptionError, match=r"cannot be called"):
        check_library_name(tmp_path / name)


def test_a_bundle_carries_hashes_of_its_files(artifact, tmp_path):
    folder = artifact.save_bundle(tmp_path / "bundle")
    manifest = read_bundle(folder)
    assert manifest["files"]["run.py"] == sha256_of(folder / "run.py")
    assert manifest["check"]["passed"] and manifest["format"] == sections.FORMAT
    assert {p.name for p in folder.iterdir()} == {
        *("golden_inputs.npz", "golden_outputs.npz", "manifest.json", "model.so", "run.py"),
        *program.FILES,
    }


def test_a_bundle_may_fill_an_empty_folder_and_replace_itself(artifact, tmp_path):
    (tmp_path / "bundle").mkdir()
    for _ in range(2):
        read_bundle(artifact.save_bundle(tmp_path / "bundle"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": []}'])
def test_a_folder_that_is_no_bundle(text, artifact, tmp_path):
    folder = artifact.save_bundle(tmp_path / "bundle")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError):
        read_bundle(folder)


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_replacing_turns_a_full_disk_into_an_output_error(tmp_path):
    with (
        pytest.raises(OutputError, match="No space left"),
        replacing(tmp_path / "file"),
        open("/dev/full", "w") as full,
    ):
        full.write("x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_replacing_follows_no_link_to_elsewhere(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "link").read_text() == "new"


def test_check_writable_leaves_nothing(tmp_path):
    check_writable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(tmp_path / "a" / "b")


def test_a_hash_is_that_of_the_content(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_of(tmp_path / "f").startswith("ba7816bf")


def test_the_manifest_in_the_bundle_is_the_one_in_the_library(artifact, tmp_path):
    from tilewright.compiler.sections import read_manifest

    folder = artifact.save_bundle(tmp_path / "bundle")
    outside = json.loads((folder / "manifest.json").read_text())
    inside = read_manifest(folder / "model.so")
    assert {k: outside[k] for k in inside} == inside
