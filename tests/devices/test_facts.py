from __future__ import annotations

import json

from tilewright.devices.facts import facts
from tilewright.targets import host


def test_facts_are_json_and_true():
    found = json.loads(json.dumps(facts()))
    assert found["threads"] == host.default_threads() and found["cpu"]
    assert set(found["features"]) == host.detect().features
