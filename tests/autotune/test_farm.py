from __future__ import annotations

import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from tilewright.autotune import farm as module
from tilewright.autotune.farm import Farm, open_devices
from tilewright.devices.device import DeviceLost
from tilewright.devices.duel import Duel
from tilewright.devices.process import TrialFailed
from tilewright.devices.where import Where
from tilewright.errors import CompileError, OptionError, TargetError
from tilewright.targets import resolve

TASK = Path("task")
CHOICES = [f"choice{n}" for n in range(12)]
BUILT = [(choice, None) for choice in CHOICES]


class _Device:
    """Answers after `pause`; is lost after `lives` duels, and with each of `poison`."""

    def __init__(self, name, lives=1000, pause=0.0, poison=()):
        self.name, self.lives, self.pause, self.poison = name, lives, pause, poison
        self.done, self.closed = [], False

    def begin(self, task):
        return [1.0]

    def duel(self, task, choice, rounds):
        time.sleep(self.pause)
        if self.lives == 0 or choice in self.poison:
            raise DeviceLost(f"{self.name}: unplugged")
        self.lives -= 1
        self.done.append(choice)
        if choice == "choice3":
            raise TrialFailed("it is no good")
        return Duel((1.0, 1.0, 1.0), 1.0, (1.0,))

    def end(self):
        pass

    def close(self):
        self.closed = True


def _measured(devices):
    lost = []
    farm = Farm(devices, lost.append)
    return dict(farm.duels(TASK, BUILT)), lost, farm


def test_every_choice_is_measured_once_and_all_devices_work():
    devices = [_Device(str(n), pause=0.01) for n in range(3)]
    found, lost, _ = _measured(devices)
    assert sorted(found) == sorted(CHOICES) and lost == []
    assert sorted(c for d in devices for c in d.done) == sorted(CHOICES)
    assert all(device.done for device in devices)
    assert isinstance(found["choice3"], TrialFailed) and isinstance(found["choice4"], Duel)


def test_a_lost_device_loses_no_choice():
    devices = [_Device("a", lives=2, pause=0.01), _Device("b", pause=0.01)]
    found, lost, farm = _measured(devices)
    assert sorted(found) == sorted(CHOICES)
    assert len(lost) == 1 and "a: unplugged; 1 devices are left" in lost[0]
    assert farm.devices == [devices[1]] and devices[0].closed


def test_the_last_choice_of_a_lost_device_is_measured_by_one_that_was_done():
    devices = [_Device("a", lives=0, pause=0.2), _Device("b")]
    found, _, _ = _measured(devices)
    assert sorted(found) == sorted(CHOICES)


def test_a_choice_that_takes_devices_down_is_given_up():
    devices = [_Device(str(n), poison=("choice5",)) for n in range(4)]
    found, lost, _ = _measured(devices)
    assert sorted(found) == sorted(CHOICES) and len(lost) == 2
    assert "devices were lost with it" in str(found["choice5"])


def test_without_devices_the_session_ends():
    with pytest.raises(CompileError, match="no device is left"):
        _measured([_Device("a", lives=3), _Device("b", lives=3)])


def test_who_stops_listening_stops_the_measuring():
    device = _Device("a", pause=0.01)
    duels = Farm([device], print).duels(TASK, BUILT)
    next(duels)
    duels.close()
    assert len(device.done) < len(CHOICES) and threading.active_count() < 20


def test_a_device_waits_until_its_result_is_dealt_with():
    device = _Device("a")
    for number, _ in enumerate(Farm([device], print).duels(TASK, BUILT), 1):
        time.sleep(0.02)
        assert len(device.done) == number


def test_who_stops_listening_to_many_devices_stops_them_all():
    devices = [_Device(str(n), pause=0.01) for n in range(3)]
    before = threading.active_count()
    duels = Farm(devices, print).duels(TASK, BUILT)
    next(duels)
    duels.close()
    assert threading.active_count() == before


def test_a_choice_without_a_program_is_a_result_too():
    device = _Device("a")
    built = [("choice0", None), ("choice1", TrialFailed("it does not compile")), ("choice2", None)]
    found = dict(Farm([device], print).duels(TASK, built))
    assert str(found["choice1"]) == "it does not compile"
    assert device.done == ["choice0", "choice2"]


def test_the_first_is_measured_while_the_next_is_built():
    measured = threading.Event()

    def built():
        yield "choice0", None
        assert measured.wait(30)
        yield "choice1", None

    found = []
    for choice, _ in Farm([_Device("a")], print).duels(TASK, built()):
        found.append(choice)
        measured.set()
    assert found == ["choice0", "choice1"]


def test_nothing_more_is_built_when_nobody_listens():
    asked = []

    def built():
        for choice in CHOICES:
            asked.append(choice)
            time.sleep(0.01)
            yield choice, None

    before = threading.active_count()
    duels = Farm([_Device("a")], print).duels(TASK, built())
    next(duels)
    duels.close()
    assert len(asked) < len(CHOICES) and threading.active_count() == before


def test_an_error_beside_the_measuring_is_not_lost():
    def built():
        yield "choice0", None
        raise ValueError("no space left")

    before = threading.active_count()
    with pytest.raises(ValueError, match="no space left"):
        list(Farm([_Device("a")], print).duels(TASK, built()))
    assert threading.active_count() == before


def test_a_question_goes_to_the_next_device_when_one_is_lost():
    def question(device):
        if device.name == "a":
            raise DeviceLost("a: unplugged")
        return device.name

    farm = Farm([_Device("a"), _Device("b")], lambda _text: None)
    assert farm.ask(question) == "b"


class _Board:
    def __init__(self, **facts):
        here = resolve("native")
        known = {"machine": here.machine.name, "features": here.features, "cpu": "some CPU"}
        versions = {name: version(name) for name in ("tilewright", "apache-tvm")}
        self.name, self.facts = "board", {**known, **versions, **facts}


@pytest.mark.parametrize(
    "facts, error, says",
    [
        ({"features": ()}, TargetError, "cannot run code for"),
        ({"machine": "aarch64"}, TargetError, "cannot run code for"),
        ({"tilewright": "0.0.1"}, OptionError, "board has tilewright 0.0.1"),
        ({"apache-tvm": "0.26.0"}, OptionError, "board has apache-tvm 0.26.0"),
    ],
)
def test_boards_that_do_not_fit_are_refused(monkeypatch, facts, error, says):
    monkeypatch.setattr(module, "RemoteDevice", lambda where, threads: _Board(**facts))
    with pytest.raises(error, match=says):
        open_devices(Where(("pi", 9090), "key").to_dict(), resolve("native"), 1)


def test_a_tracker_without_boards(monkeypatch):
    monkeypatch.setattr(module, "FREE_SECONDS", 0.0)
    monkeypatch.setattr(module, "free_devices", lambda where: 0)
    with pytest.raises(OptionError, match="no board with the key lab is free") as info:
        open_devices(Where(("pi", 9190), "lab", tracked=True).to_dict(), resolve("native"), 1)
    assert "tilewright board serve --key lab --tracker pi:9190" in info.value.hint


def test_as_many_boards_as_are_free_or_asked_for(monkeypatch):
    monkeypatch.setattr(module, "free_devices", lambda where: 3)
    monkeypatch.setattr(module, "RemoteDevice", lambda where, threads: _Board())
    for most, count in ((None, 3), (2, 2), (9, 3)):
        where = Where(("pi", 9190), "lab", tracked=True, most=most)
        assert len(open_devices(where.to_dict(), resolve("native"), 1)) == count
