from __future__ import annotations

import os

import numpy as np
import pytest

import tilewright
from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright import api
from tilewright.errors import (
    ArtifactError,
    CheckFailed,
    ModelError,
    OptionError,
    UnsupportedModel,
)
from tilewright.targets import host, resolve


def test_takes_a_model_in_memory(here):
    artifact = tilewright.compile(models.linear())
    assert artifact.check["passed"] and artifact.manifest["name"] == "small"
    assert artifact.load()(np.ones((2, 64), np.float32)).shape == (2, 32)


def test_a_name_with_slashes_is_no_path(here):
    proto = models.linear()
    proto.graph.name = "../torch/jit/main"
    assert tilewright.compile(proto, check=False).manifest["name"] == ".._torch_jit_main"


def test_the_temporary_folder_goes_with_the_artifact(here, tmp_path):
    artifact = tilewright.compile(models.unary(), check=False)
    assert artifact.library.exists()
    artifact.save(here / "m.so")
    del artifact
    assert [p.name for p in here.iterdir()] == ["m.so"]
    assert list((tmp_path / "temporary").glob("tilewright-*")) == []


def test_shapes_and_options_arrive(here, model_file):
    artifact = tilewright.compile(
        model_file(models.linear("n")),
        target="x86-64-avx2",
        shapes={"x": (3, 64)},
        options=tilewright.CompileOptions(opt_level=1, threads=2),
        check=False,
    )
    assert artifact.manifest["inputs"][0]["shape"] == [3, 64]
    assert artifact.manifest["target"]["name"] == "x86-64-avx2"
    assert artifact.manifest["threads"] == 2
    assert artifact.unchecked == "the check was switched off"


def test_says_why_it_did_not_check(here, monkeypatch):
    import dataclasses

    few = dataclasses.replace(host.detect(), features=frozenset(resolve("x86-64-avx2").features))
    monkeypatch.setattr(host, "detect", lambda: few)
    artifact = tilewright.compile(models.unary(), target="x86-64-avx512")
    assert artifact.check is None and "lacks avx512f" in artifact.unchecked
    # It carries what a machine that can run it is to find.
    bundle = artifact.save_bundle(here / "bundle")
    with pytest.raises(ArtifactError, match="this CPU lacks avx512f"):
        tilewright.verify(bundle)


def test_a_bundle_without_golden_outputs_is_refused(here):
    artifact = tilewright.compile(models.unary(), check=False)
    with pytest.raises(OptionError, match="golden outputs, and none were made"):
        artifact.save_bundle(here / "bundle")


def test_a_bundle_of_functions_with_another_name_is_refused(here):
    options = tilewright.CompileOptions(standalone="net")
    artifact = tilewright.compile(models.unary(), options=options)
    with pytest.raises(OptionError, match="calls model_run"):
        artifact.save_bundle(here / "bundle")


def test_a_machine_without_tvms_runtime_refuses_what_needs_it():
    net = Net(x=(4, 4))
    with pytest.raises(UnsupportedModel, match="a size that C cannot be told"):
        tilewright.compile(net.model(net.NonZero("x")), target="riscv64")


def test_wrong_numbers_are_a_failed_check_and_no_artifact(here, model_file, monkeypatch):
    library = compile_here(models.unary("Neg"), here).library
    stock = api.child.call

    def swap(function, job, *args, **fields):
        if function.endswith(":check_job"):
            job = {**job, "library": str(library)}
        return stock(function, job, *args, **fields)

    monkeypatch.setattr(api.child, "call", swap)
    with pytest.raises(CheckFailed, match="disagrees with ONNX Runtime") as info:
        tilewright.compile(model_file(models.unary("Relu")))
    assert info.value.exit_code == 1 and "output 'y' at" in info.value.where
    assert "-O1" in info.value.hint


def test_the_stages_leave_their_ir(here, model_file):
    tilewright.compile(model_file(models.conv_net()), check=False, dump=here / "dump")
    names = sorted(path.name for path in (here / "dump").iterdir())
    assert names[0] == "01-load.txt" and names[-1].endswith("-link.txt")
    assert "fold_batch_norm" in "".join(names)
    texts = {path.name[3:-4]: path.read_text() for path in (here / "dump").iterdir()}
    assert "R.nn.batch_norm" in texts["import"]
    assert "R.nn.batch_norm" not in texts["fold_batch_norm"]
    assert "@T.prim_func" in texts["schedule"] and ".globl" in texts["codegen"]


def test_progress_names_every_step(here):
    events = []
    tilewright.compile(models.unary(), progress=events.append)
    started = [e["step"] for e in events if e["event"] == "start"]
    done = [e["step"] for e in events if e["event"] == "done"]
    assert started == done and started[0] == "load" and started[-2:] == ["link", "verify"]


def test_a_file_is_what_its_content_says(here, linear_library, model_file):
    renamed = here / "library.onnx"
    renamed.write_bytes(linear_library.read_bytes())
    assert api.is_artifact(renamed) and not api.is_artifact(model_file(models.unary()))
    with pytest.raises(ModelError, match="no such file"):
        api.is_artifact(here / "gone")


def test_verifies_a_model_an_artifact_and_a_bundle(here, model_file):
    path = model_file(models.linear("n"))
    assert len(tilewright.verify(path, examples=4).examples) == 4
    artifact = tilewright.compile(path)
    assert tilewright.verify(artifact.save(here / "m.so"), model=path).passed
    report = tilewright.verify(artifact.save_bundle(here / "bundle"))
    assert report.passed and report.reference.startswith("golden outputs of ONNX Runtime")


def test_loads_by_path_or_text(linear_library):
    assert tilewright.load(os.fspath(linear_library), threads=1).threads == 1


def test_benches_beside_onnx_runtime_and_alone(here, model_file, linear_library):
    found = tilewright.bench(model_file(models.linear()), threads=1, seconds=0.05)
    assert set(found["engines"]) == {"tilewright", "onnxruntime"} and found["threads"] == 1
    assert found["ratio"]["low"] <= found["ratio"]["median"] <= found["ratio"]["high"]
    alone = tilewright.bench(linear_library, seconds=0.05)
    assert set(alone["engines"]) == {"tilewright"} and "ratio" not in alone
