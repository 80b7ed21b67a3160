"""A board that is this machine, behind programs that stand for ssh and scp."""

from __future__ import annotations

import os

import pytest

import tilewright
from tests import models
from tests.command_line import command
from tilewright.devices.ssh import run_bundle
from tilewright.errors import ArtifactError, OptionError, TargetError, ToolchainError
from tilewright.options import CompileOptions

SSH = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
[ "$1" = pi@board ] || { echo "ssh: Could not resolve hostname $1" >&2; exit 255; }
shift; echo "$*" >> "$LOG"; exec sh -c "$*"
"""
SCP = """#!/bin/sh
while [ "$1" = -o ]; do shift 2; done
cp -r "$3" "${4#*:}"
"""


@pytest.fixture
def board(tmp_path, monkeypatch):
    """The log of what was asked of the board."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("ssh", SSH), ("scp", SCP)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    artifact = tilewright.compile(models.linear(), options=CompileOptions(standalone="model"))
    return artifact.save_bundle(tmp_path_factory.mktemp("ssh") / "bundle")


def test_a_bundle_tests_itself_there_and_nothing_stays(board, bundle, capfd):
    assert command("board", "run", bundle, "pi@board", "--threads", "1") == 0
    assert "selftest passed" in capfd.readouterr().out
    asked = board.read_text().splitlines()
    folder = asked[2].split("/run")[0]
    assert asked[:2] == ["uname -m", "mktemp -d"] and asked[2].endswith("--selftest --threads 1")
    assert asked[3] == f"rm -rf {folder}" and not os.path.exists(folder)


def test_another_kind_of_board_is_refused_before_anything_is_copied(board, tmp_path):
    options = CompileOptions(standalone="model")
    artifact = tilewright.compile(models.linear(), "rpi4", options=options)
    with pytest.raises(TargetError, match="the bundle is for aarch64"):
        run_bundle(artifact.save_bundle(tmp_path / "pi"), "pi@board", [])
    assert board.read_text() == "uname -m\n"


def test_nobody_there(board, bundle):
    with pytest.raises(OptionError, match="no connection to pi@moon: ssh: Could not resolve"):
        run_bundle(bundle, "pi@moon", [])


def test_a_bundle_without_a_program(board, tmp_path):
    options = CompileOptions(disable=("tables",))
    folder = tilewright.compile(models.linear(), options=options).save_bundle(tmp_path / "bundle")
    with pytest.raises(ArtifactError, match="no program"):
        run_bundle(folder, "pi@board", [])


def test_no_ssh_at_all(bundle, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolchainError, match="ssh is not installed"):
        run_bundle(bundle, "pi@board", [])
