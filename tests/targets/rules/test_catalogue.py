from __future__ import annotations

from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import AVX2, group
from tilewright.ops import ActivationSpec, GemmSpec, Step
from tilewright.targets.rules.catalogue import RULES, lower


def test_names_are_unique():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)


def test_the_first_rule_that_does_not_refuse():
    x, w = floats(0, (3, 4), (4, 5))
    rule, lowered = lower(group(GemmSpec("float32", (3, 4), (4, 5), True), (3, 5), x=x, w=w), AVX2)
    assert rule.name == "linear" and lowered.launches[-1].shape == (3, 5)


def test_no_rule_for_a_spec():
    spec = ActivationSpec("float32", Step("relu"), (3,))
    assert lower(group(spec, (3,)), AVX2) == {}
