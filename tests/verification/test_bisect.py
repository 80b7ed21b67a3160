from __future__ import annotations

import pytest

from tilewright.compiler.steps import OPTIONAL_STEPS, RULE_STEPS
from tilewright.verification.bisect import Bisection, Switch

KERNEL = {"rule": "conv", "fusion": "conv_block"}
OTHER = {"rule": "linear", "fusion": "linear"}
PLAIN = {"rule": "fallback", "fusion": None}


def _culprit(fails, kernel=KERNEL, kernels=(KERNEL, OTHER, PLAIN), tuned=False, normalise=False):
    search = Bisection(fails)
    return search.culprit(kernel, kernels, tuned, normalise), search.tried


def _unless(*mending):
    """A failure that is gone where one of `mending` is off, or whatever is above its level."""

    def fails(switch: Switch) -> bool:
        off = {*switch.disable} | (set() if switch.records else {"records"})
        if switch.level is not None:
            off |= {"fuse", "lower", "fuse_ops", *RULE_STEPS}
        if switch.level == 0:
            off |= {*OPTIONAL_STEPS} - {"schedule"}
        # Without its group a rule has nothing to do.
        if "conv_block" in off or "lower" in off:
            off.add("conv")
        return not off & {*mending}

    return fails


@pytest.mark.parametrize(
    ("mending", "kind", "name", "switch"),
    [
        (("conv",), "rule", "conv", "--disable conv"),
        (("conv_block",), "fusion", "conv_block", "--disable conv_block"),
        (("linear_rule",), "rule", "linear", None),
        (("simplify",), "stage", "simplify", "--disable simplify"),
        (("merge_projections",), "stage", "merge_projections", None),
        (("lower", "conv_block"), "stage", "lower", "--disable lower"),
        (("fuse_ops",), "stage", "fuse_ops", "--disable fuse_ops"),
        (("fuse",), "stage", "fuse", "-O1"),
        ((), "required stages", "import or legalize", None),
    ],
)
def test_the_smallest_switch_that_mends_names_the_culprit(mending, kind, name, switch):
    fails = _unless(*mending)
    if mending == ("linear_rule",):
        fails = _with_linear(fails)
    found, tried = _culprit(fails)
    assert (found.kind, found.name) == (kind, name)
    if switch is not None:
        assert str(found.switch) == switch
        assert tried[found.switch] is False
    assert found.to_dict()["reason"]


def _with_linear(fails):
    return lambda switch: fails(switch) and "linear" not in switch.disable


def test_records_are_asked_first_and_only_where_there_are_any():
    found, tried = _culprit(_unless("records"), tuned=True)
    assert (found.kind, str(found.switch), len(tried)) == ("record", "--no-db", 1)
    _, tried = _culprit(_unless("conv"))
    assert Switch(records=False) not in tried


def test_a_kernel_of_no_rule_is_tried_without_its_schedule():
    found, tried = _culprit(_unless("schedule"), kernel=PLAIN)
    assert (found.kind, found.name, len(tried)) == ("stage", "schedule", 1)


def test_a_normalised_model_that_differs_needs_no_compilation():
    found, tried = _culprit(_unless(), normalise=True)
    assert found.name == "normalise" and not tried


def test_what_does_not_compile_does_not_mend():
    found, _ = _culprit(lambda switch: None if "conv" in switch.disable else True)
    assert found.kind == "required stages"


def test_where_only_all_together_help_nobody_is_named():
    found, tried = _culprit(lambda switch: switch.level != 0, kernel=None)
    assert found.kind == "several" and len(tried) == len(set(tried))
