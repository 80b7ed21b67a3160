from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

import tilewright
from tests import models
from tests.command_line import ROOT


def _run(folder):
    return subprocess.run(
        [sys.executable, "run.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bundle_runs_itself(here, tmp_path):
    folder = tilewright.compile(models.linear()).save_bundle(tmp_path / "bundle")
    done = _run(folder)
    assert done.returncode == 0, done.stderr
    assert "y: float32[2, 32]: mean" in done.stdout and "agrees with golden" in done.stdout


def test_a_bundle_with_other_golden_outputs_fails_itself(here, tmp_path):
    folder = tilewright.compile(models.linear()).save_bundle(tmp_path / "bundle")
    np.savez(folder / "golden_outputs.npz", y=np.ones((2, 32), np.float32))
    done = _run(folder)
    assert done.returncode != 0 and "changed" in done.stderr
