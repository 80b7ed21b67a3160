from __future__ import annotations

import ctypes
import json

import numpy as np
import pytest

import tilewright
from tests import models
from tilewright.compiler.artifact import sha256_of
from tilewright.devices import local as module
from tilewright.devices.device import DeviceLost
from tilewright.devices.local import LocalDevice
from tilewright.devices.process import TrialFailed


def spoil(task):
    """Make no numbers of the arguments."""
    for file in task.glob("argument*.npy"):
        np.save(file, np.load(file) * np.nan)


@pytest.fixture
def device():
    device = LocalDevice(threads=1)
    yield device
    device.close()


def test_a_choice_like_the_default_takes_as_long(device, built):
    assert min(device.begin(built)) > 0
    found = device.duel(built, "same", 6)
    assert 0.5 < found.ratio < 2 and len(found.ratios) <= 6


def test_a_duel_begins_the_task_by_itself(device, built):
    assert device.duel(built, "same", 1).default_seconds > 0


def test_wrong_numbers_fail(device, task):
    device.begin(task)
    values = np.load(task / "reference0.npy")
    values.flat[3] += 1e-3 * np.abs(values).max() + 1e-3
    np.save(task / "reference0.npy", values)
    with pytest.raises(TrialFailed, match="numbers are wrong"):
        device.duel(task, "same", 1)
    values.flat[3] = np.nan
    np.save(task / "reference0.npy", values)


def test_what_is_no_number_fails(device, task):
    device.begin(task)
    spoil(task)
    with pytest.raises(TrialFailed, match="no number"):
        device.duel(task, "same", 1)


def test_the_end_of_the_default_is_no_failure_of_a_choice(device, built, monkeypatch):
    real, calls = module.duel, []

    def duel(default, other, rounds):
        calls.append(default)
        if len(calls) == 1:
            default.close()
        return real(default, other, rounds)

    monkeypatch.setattr(module, "duel", duel)
    device.begin(built)
    assert device.duel(built, "same", 1).seconds and len(calls) == 2


def test_a_default_that_runs_no_more_is_the_machines_fault(device, task):
    device.begin(task)
    device.end()
    (task / "default" / "program.so").unlink()
    with pytest.raises(DeviceLost, match="does not run any more"):
        device.duel(task, "same", 1)


def test_a_program_that_crashes_when_it_runs(device, built, monkeypatch):
    real = module.serve

    def serve(task, name, threads, send, commands):
        if name == "default":
            real(task, name, threads, send, commands)
        send(ready=True)
        next(iter(commands))
        ctypes.string_at(0)

    monkeypatch.setattr(module, "serve", serve)
    device.begin(built)
    with pytest.raises(TrialFailed, match="SIGSEGV"):
        device.duel(built, "same", 1)
    assert device.begin(built)


def test_a_roofline(device):
    assert device.roofline().peak > 1e8


@pytest.mark.parametrize("spoilt", [False, True], ids=["right", "wrong"])
def test_a_bundle_is_checked_before_it_is_timed(spoilt, here, monkeypatch):
    monkeypatch.setattr(module, "WHOLE_SECONDS", 0.1)
    artifact = tilewright.compile(models.linear())
    after = artifact.save_bundle(here / "after")
    if spoilt:
        golden = dict(np.load(after / "golden_outputs.npz"))
        np.savez(after / "golden_outputs.npz", **{k: v + 1 for k, v in golden.items()})
        manifest = json.loads((after / "manifest.json").read_text())
        manifest["files"]["golden_outputs.npz"] = sha256_of(after / "golden_outputs.npz")
        (after / "manifest.json").write_text(json.dumps(manifest))
    found = LocalDevice(1).compare(artifact.library, after, 0)
    assert found["right"] is not spoilt and found["ratio"]["median"] > 0
    assert "right" not in LocalDevice(1).compare(artifact.library, artifact.library, 0)
