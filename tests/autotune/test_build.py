from __future__ import annotations

import json

import pytest

from tilewright.autotune.build import start
from tilewright.devices.process import TrialFailed
from tilewright.targets.rules.catalogue import Choice


def test_the_default_is_built(tasks, conditions, tmp_path):
    said = start(tasks[0], None, conditions, tmp_path / "default").answer(60)
    assert said["flops"] > 0
    names = {file.name for file in (tmp_path / "default").iterdir()}
    assert {"program.so", "program.json"} <= names
    calls = json.loads((tmp_path / "default" / "program.json").read_text())
    assert calls["growth"] > 16 and calls["calls"][-1]["results"]


def test_the_same_choice_is_the_same_program(tasks, conditions, tmp_path):
    rule = start(tasks[0], None, conditions, tmp_path / "default").answer(60)["rule"]
    start(tasks[0], Choice(rule, {}), conditions, tmp_path / "same").answer(60)
    both = [(tmp_path / name / "program.json").read_text() for name in ("default", "same")]
    assert both[0] == both[1]


@pytest.mark.parametrize("choice", [Choice("no such rule", {}), Choice("conv", {"rows": 99})])
def test_a_choice_that_does_not_fit_fails(tasks, conditions, tmp_path, choice):
    with pytest.raises(TrialFailed, match="KnobError"):
        start(tasks[0], choice, conditions, tmp_path / "choice").answer(60)
