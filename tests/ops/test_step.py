from __future__ import annotations

import pytest

from tilewright.ops import Step
from tilewright.ops.step import ELEMENTWISE, PARAMETERS, WITH_NUMBER


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("relu"), "relu"),
        (Step("clip", (0.0, 6.0)), "clip(0, 6)"),
        (Step("clip", (-0.5, float("inf"))), "clip(-0.5, inf)"),
        (Step("transpose", (0, 3, 1, 2)), "transpose(0, 3, 1, 2)"),
    ],
)
def test_is_shown_as_a_call(step, text):
    assert str(step) == text


def test_no_digit_is_lost():
    assert str(Step("elu", (0.1,))) != str(Step("elu", (0.1 + 1e-12,)))


def test_checks_the_number_of_parameters():
    with pytest.raises(ValueError, match=r"clip: parameters \(1,\), want \('low', 'high'\)"):
        Step("clip", (1,))
    assert Step("soft_cap", (30.0,)).parameters == (30.0,)  # A user's own.


def test_the_docstring_lists_every_step():
    rows = [line.split("|")[1:3] for line in Step.__doc__.splitlines() if line.count("|") == 4]
    listed = {name.strip(): meaning.strip() for name, meaning in rows}
    generic = {*ELEMENTWISE, *WITH_NUMBER}
    assert {"name", "---", "transpose", *PARAMETERS} - generic == {
        name for name in listed if "`" not in name and not generic & set(name.split(", "))
    }
    assert all(bool(listed[name]) == bool(PARAMETERS[name]) for name in {*PARAMETERS} - generic)
