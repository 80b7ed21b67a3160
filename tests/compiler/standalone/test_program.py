"""The program of a bundle: what it checks before it loads the model, and after."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tests import models
from tests.emulator import EMULATED, emulated
from tilewright.options import CompileOptions
from tilewright.targets import host, resolve
from tilewright.targets.toolchain import find_c_compiler

STANDALONE = CompileOptions(standalone="model")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    artifact = tilewright.compile(models.mlp_block("rows"), options=STANDALONE)
    return artifact.save_bundle(tmp_path_factory.mktemp("here") / "bundle")


@pytest.fixture
def bundle(built, tmp_path):
    """A bundle that may be spoilt."""
    return shutil.copytree(built, tmp_path / "bundle")


def _run(bundle: Path, *words: str, prefix: tuple[str, ...] = ()) -> tuple[int, str]:
    command = [*prefix, bundle / "run", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def _rebuild(bundle: Path) -> None:
    """As the first lines of run.c say."""
    command = next(
        line for line in (bundle / "run.c").read_text().splitlines() if line.startswith(" *   cc ")
    )
    words = command.removeprefix(" *   cc ").split()
    subprocess.run([find_c_compiler(), *words], cwd=bundle, check=True)


def test_a_bundle_tests_itself(bundle):
    code, said = _run(bundle, "--selftest", "--threads", "2")
    assert code == 0 and "passed, error" in said and said.endswith("selftest passed\n")
    assert _run(bundle)[1].startswith("y: ") and "ms a run" in _run(bundle, "--selftest")[1]


def test_the_manifest_knows_every_file(bundle):
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    assert set(files) | {"manifest.json"} == {path.name for path in bundle.iterdir()}
    for name, digest in files.items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    assert tilewright.verify(bundle).passed


@pytest.mark.parametrize("name", ["model.so", "golden_outputs.npz"])
def test_a_changed_file_is_refused(name, bundle):
    with (bundle / name).open("ab") as file:
        file.write(b"x")
    code, said = _run(bundle, "--selftest")
    assert (code, said.splitlines()[0]) == (2, f"error: a file of the bundle was changed: {name}")
    (bundle / name).unlink()
    code, said = _run(bundle, "--selftest")
    assert code == 2 and f"is missing: {name}" in said


def test_another_machines_library_is_refused(bundle):
    data = bytearray((bundle / "model.so").read_bytes())
    data[18] = 183  # EM_AARCH64
    (bundle / "model.so").write_bytes(data)
    code, said = _run(bundle)
    assert code == 2 and "for another machine: aarch64\n  expected: x86_64" in said
    (bundle / "model.so").write_bytes(b"not a library at all")
    assert "another machine: no ELF file" in _run(bundle)[1]


def test_an_older_c_library_is_refused(bundle):
    header = bundle / "expected.h"
    header.write_text(header.read_text().replace('EXPECTED_GLIBC ""', 'EXPECTED_GLIBC "2.99"'))
    _rebuild(bundle)
    code, said = _run(bundle, "--selftest")
    assert code == 2 and "glibc 2.99 or later; compile with --glibc" in said


def test_outputs_that_differ_fail(bundle):
    golden = dict(np.load(bundle / "golden_outputs.npz"))
    np.savez(bundle / "golden_outputs.npz", **{k: v * 1.001 for k, v in golden.items()})
    digest = hashlib.sha256((bundle / "golden_outputs.npz").read_bytes()).hexdigest()
    old = json.loads((bundle / "manifest.json").read_text())["files"]["golden_outputs.npz"]
    header = bundle / "expected.h"
    header.write_text(header.read_text().replace(old, digest))
    _rebuild(bundle)
    code, said = _run(bundle, "--selftest")
    assert code == 1 and "FAILED, error" in said and "selftest FAILED" in said


def test_a_wrong_option_is_named(bundle):
    code, said = _run(bundle, "--fast")
    assert code == 2 and "no option --fast" in said


def test_a_feature_that_is_missing_is_refused(tmp_path):
    row = resolve("sapphire-rapids")
    if "avx512f" in host.detect().features:
        pytest.skip("this CPU has AVX-512")
    artifact = tilewright.compile(models.linear(), row, options=STANDALONE)
    assert "lacks" in artifact.unchecked and artifact.check is None
    code, said = _run(artifact.save_bundle(tmp_path / "bundle"), "--selftest")
    assert code == 2 and "this CPU lacks avx512f\n  expected: a CPU like sapphire-rapids" in said


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """Bundles for boards, by name."""
    folder, made = tmp_path_factory.mktemp("boards"), {}

    def build(name: str) -> Path:
        if name not in made:
            artifact = tilewright.compile(models.conv_net(), name, options=STANDALONE)
            made[name] = artifact.save_bundle(folder / name)
        return made[name]

    return build


@pytest.mark.parametrize("name", EMULATED)
def test_a_board_runs_its_bundle(name, boards):
    code, said = _run(boards(name), "--selftest", prefix=emulated(name))
    assert code == 0 and said.endswith("selftest passed\n"), said


def test_a_board_refuses_code_of_a_newer_one(boards):
    prefix = emulated("rpi5", "cortex-a53")
    code, said = _run(boards("rpi5"), "--selftest", prefix=prefix)
    assert code == 2 and "this CPU lacks " in said and "a CPU like rpi5" in said
