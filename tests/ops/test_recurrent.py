from __future__ import annotations

import json

import pytest

from tilewright.ops import RecurrentSpec, Step


@pytest.mark.parametrize(("cell", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_gates(cell, gates):
    spec = RecurrentSpec("float32", cell, "n", 1, 8, (Step("tanh"),))
    assert spec.gates == gates
    assert json.loads(spec.key())["kind"] == "Recurrent"
