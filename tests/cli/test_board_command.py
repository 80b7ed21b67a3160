from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.command_line import ROOT, command, refused
from tilewright.devices.facts import facts
from tilewright.errors import OptionError


def _started(*words):
    code = "from tilewright.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "board", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def board():
    """A server, with the address that it says."""
    server = _started("serve", "--key", "lab", "--port", "19290")
    address = server.stderr.readline().split()[2].strip(";")
    yield server, address
    server.kill()
    server.communicate()


def test_check_shows_this_machine(capsys):
    assert command("board", "check", "--json") == 0
    assert json.loads(capsys.readouterr().out) == facts()


def test_a_server_answers_and_ends(board, capsys):
    server, address = board
    assert f"tune MODEL.onnx --board {address} --key lab" in server.stderr.readline()
    assert command("board", "check", address, "--key", "lab", "--json") == 0
    assert json.loads(capsys.readouterr().out) == facts()
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=30) == 0


def test_a_tracker_ends_too():
    tracker = _started("tracker", "--port", "19390")
    assert "listening on 127.0.0.1:193" in tracker.stderr.readline()
    tracker.send_signal(signal.SIGTERM)
    assert tracker.wait(timeout=30) == 0
    tracker.stderr.close()


def test_listening_to_all_is_warned_of():
    server = _started("serve", "--key", "lab", "--port", "19490", "--host", "0.0.0.0")
    assert "warning: whoever reaches 0.0.0.0" in server.stderr.readline()
    server.kill()
    server.communicate()


def test_a_board_wants_its_key():
    refused(OptionError, "board", "check", "127.0.0.1:9", says=["--key KEY"])
