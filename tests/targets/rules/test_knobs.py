from __future__ import annotations

import pytest

from tilewright.targets.rules.knobs import Choices, Knob, KnobError, choosing, note, pick, scaled


def test_by_itself_a_knob_has_its_default():
    assert pick("group", "rows", range(1, 5), default=3) == 3


def test_a_choice_decides_and_is_noted():
    with choosing(Choices("group", {"up.rows": 2})) as choices:
        assert pick("group_up", "rows", (1, 2, 4), default=4) == 2
        assert pick("group", "rows", (1, 2), default=1) == 1
        note("group_up", m=5)
    assert choices.asked == {"up.rows": Knob((1, 2, 4), 4), "rows": Knob((1, 2), 1)}
    assert choices.facts == {"up": {"m": 5}}
    assert pick("group_up", "rows", (1, 2, 4), default=4) == 4


def test_the_default_is_an_option_and_options_are_in_order():
    with choosing(Choices("g")) as choices:
        pick("g", "tiles", [9, 3, 3], default=5)
    assert choices.asked["tiles"].options == (3, 5, 9)


def test_a_value_that_is_no_option_is_refused():
    with choosing(Choices("g", {"rows": 7})), pytest.raises(KnobError, match=r"rows is 7, .* 1, 2"):
        pick("g", "rows", (1, 2), default=1)


def test_the_choices_of_an_inner_group_end_with_it():
    with choosing(Choices("g", {"rows": 2})):
        with choosing(Choices("h")):
            assert pick("h", "rows", (1, 2), default=1) == 1
        assert pick("g", "rows", (1, 2), default=1) == 2


@pytest.mark.parametrize(
    "value, most, sizes",
    [(8, 100, [2, 4, 8, 16, 32]), (1, 2, [1, 1, 1, 2, 2]), (3, 7, [1, 2, 3, 6, 7])],
)
def test_sizes_to_try_beside_one(value, most, sizes):
    assert scaled(value, most) == sizes
