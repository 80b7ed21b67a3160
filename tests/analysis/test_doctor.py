from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError

import pytest

from tilewright.analysis import doctor


def test_all_is_well_here():
    found = {f.name: f for f in doctor.examine()}
    assert all(f.good for f in found.values() if f.needed), found
    assert {"Python", "this machine", "apache-tvm", "C compiler", "temporary files"} <= set(found)
    json.dumps([f.to_dict() for f in found.values()])


def test_a_missing_package_comes_with_the_command(monkeypatch):
    stock = doctor.version

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return "0.26.0" if name == "apache-tvm" else stock(name)

    monkeypatch.setattr(doctor, "version", version)
    found = {f.name: f for f in doctor.examine()}
    assert not found["onnxruntime"].good and "pip install 'onnxruntime" in found["onnxruntime"].mend
    assert not found["apache-tvm"].good and found["apache-tvm"].found == "0.26.0"
    assert "==0.27.0.post1" in found["apache-tvm"].mend


def test_no_compiler(monkeypatch):
    monkeypatch.setenv("CC", "/no/such/cc")
    found = {f.name: f for f in doctor.examine()}
    assert not found["C compiler"].good and "gcc" in found["C compiler"].mend


def test_no_room_for_temporary_files(monkeypatch):
    def full(**_settings):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", full)
    found = {f.name: f for f in doctor.examine()}
    assert not found["temporary files"].good and "TMPDIR" in found["temporary files"].mend


@pytest.mark.parametrize("quota, text", [(None, "1"), (0.5, "1, cgroup quota 0.5 CPUs")])
def test_threads_name_the_quota(quota, text, monkeypatch):
    monkeypatch.delenv("TILEWRIGHT_THREADS", raising=False)
    monkeypatch.setattr(doctor.host, "cgroup_quota", lambda: quota)
    monkeypatch.setattr(doctor.host, "default_threads", lambda: 1)
    assert {f.name: f for f in doctor.examine()}["threads by default"].found == text


def test_threads_name_the_environment(monkeypatch):
    monkeypatch.setenv("TILEWRIGHT_THREADS", "7")
    found = {f.name: f for f in doctor.examine()}["threads by default"].found
    assert found == "7, from TILEWRIGHT_THREADS"
