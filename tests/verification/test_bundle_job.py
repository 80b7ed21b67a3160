from __future__ import annotations

import json

import numpy as np

import tilewright
from tests import models
from tests.command_line import run_job_here

JOB = "tilewright.verification.bundle_job:bundle_job"


def _job(folder):
    check = json.loads((folder / "manifest.json").read_text())["check"]
    return {"folder": str(folder), "threads": None, "check": check}


def test_golden_outputs_are_met_and_a_change_of_them_is_seen(tmp_path):
    folder = tilewright.compile(models.linear("n")).save_bundle(tmp_path / "b")
    events = []
    found = run_job_here(JOB, _job(folder), events.append)
    assert found["passed"] and found["subject"] == "b"
    assert found["reference"].startswith("golden outputs of ONNX Runtime")
    assert [(e["dims"], e["kind"]) for e in found["examples"]] == [({"n": 1}, "golden")]
    golden = dict(np.load(folder / "golden_outputs.npz"))
    np.savez(folder / "golden_outputs.npz", **{k: v * 1.0001 for k, v in golden.items()})
    found = run_job_here(JOB, _job(folder), events.append)
    assert not found["passed"] and found["failure"]["verdicts"][0]["error"] > 5e-5
    assert events[-1]["note"] == "outside the tolerance"
