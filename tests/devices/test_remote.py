from __future__ import annotations

import socket

import numpy as np
import pytest

from tilewright.devices import remote, server
from tilewright.devices.device import DeviceLost
from tilewright.devices.facts import facts
from tilewright.devices.process import TrialFailed
from tilewright.devices.remote import RemoteDevice, facts_of, free_devices
from tilewright.devices.where import Where
from tilewright.errors import OptionError

KEY = "here"


@pytest.fixture(scope="module")
def board():
    """A server on this machine."""
    started = server.start(KEY, ("127.0.0.1", 19090))
    yield started
    started.terminate()


@pytest.fixture
def where(board):
    return Where(("127.0.0.1", board.port), KEY)


@pytest.fixture
def device(where):
    device = RemoteDevice(where, threads=1)
    yield device
    device.close()


def test_a_board_says_what_it_is(where):
    assert facts_of(where) == facts()


def test_a_duel_on_a_board(device, built):
    assert min(device.begin(built)) > 0
    found = device.duel(built, "same", 4)
    assert 0.5 < found.ratio < 2 and len(found.seconds) == 3
    device.end()


def test_a_failed_trial_leaves_the_connection(device, task):
    for file in task.glob("argument*.npy"):
        np.save(file, np.load(file) * np.nan)
    device.begin(task)
    with pytest.raises(TrialFailed, match="no number"):
        device.duel(task, "same", 1)
    with pytest.raises(TrialFailed, match="no number"):
        device.duel(task, "same", 1)


def test_a_board_that_disappears_is_lost(device, built):
    device.begin(built)
    device._process.close()
    with pytest.raises(DeviceLost, match="its process ended"):
        device.duel(built, "same", 1)


def test_what_a_board_cannot_do_loses_it(device):
    with pytest.raises(DeviceLost, match="_dance"):
        device._ask(do="dance")


def test_the_wrong_key_is_told(board, capfd):
    with pytest.raises(OptionError, match="does not answer") as info:
        facts_of(Where(("127.0.0.1", board.port), "wrong"))
    assert "--key wrong" in info.value.hint
    assert "Traceback" not in capfd.readouterr().err


def test_nobody_there_is_told(monkeypatch, capfd):
    monkeypatch.setattr(remote, "CONNECT_SECONDS", 2.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    with pytest.raises(OptionError, match="does not answer"):
        facts_of(Where(address, KEY))
    with pytest.raises(OptionError, match="no tracker answers"):
        free_devices(Where(address, KEY, tracked=True))
    assert "Traceback" not in capfd.readouterr().err
