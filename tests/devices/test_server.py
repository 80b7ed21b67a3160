from __future__ import annotations

import json

import pytest

from tilewright.devices import server
from tilewright.devices.device import DeviceLost
from tilewright.devices.process import TrialFailed
from tilewright.errors import OptionError


class _Device:
    def __init__(self, threads):
        self.threads = threads

    def begin(self, task):
        return [0.5]

    def duel(self, task, choice, rounds):
        if choice == "bad":
            raise TrialFailed("it is bad")
        raise DeviceLost("it is gone")


def _ask(answerer, **job):
    return json.loads(answerer(json.dumps(job)))


def test_answers_are_json():
    answerer = server._Answerer(_Device)
    assert _ask(answerer, do="threads", threads=3) == {}
    assert _ask(answerer, do="begin", task="t") == {"times": [0.5]}
    duel = {"do": "duel", "task": "t", "rounds": 1}
    assert _ask(answerer, **duel, choice="bad") == {"failure": "it is bad"}
    assert _ask(answerer, **duel, choice="other") == {"lost": "it is gone"}


def test_an_address_of_another_machine_is_told():
    with pytest.raises(OptionError, match="cannot listen"):
        server.start("key", ("192.0.2.1", 19090))
    with pytest.raises(OptionError, match="cannot listen"):
        server.start_tracker(("192.0.2.1", 19190))
