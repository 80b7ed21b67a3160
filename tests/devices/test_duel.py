from __future__ import annotations

import itertools

import pytest

from tilewright.devices import duel as module
from tilewright.devices.duel import FEWEST_ROUNDS, MOST_ROUNDS, duel, quartiles
from tilewright.devices.process import TrialFailed


class _Program:
    """Answers as a trial does: a block of equal times for each number given."""

    def __init__(self, *seconds: float) -> None:
        self.blocks = itertools.cycle(seconds)
        self.runs = 0

    def run(self, _seconds: float) -> list[float]:
        self.runs += 1
        return [next(self.blocks)] * 5


def test_rounds_that_agree_are_few():
    default, other = _Program(1.0), _Program(0.8)
    found = duel(default, other)
    assert found.ratio == pytest.approx(0.8)
    assert default.runs == other.runs == FEWEST_ROUNDS


def test_rounds_that_do_not_agree_are_repeated():
    other = _Program(0.5, 0.9)
    found = duel(_Program(1.0), other)
    assert other.runs == MOST_ROUNDS and 0.5 <= found.ratio <= 0.9


@pytest.mark.parametrize("seconds, rounds", [([2.0], 1), ([1.3, 1.2], 2), ([1.3, 1.1, 1.2], 3)])
def test_what_is_clearly_slower_is_given_up(seconds, rounds):
    other = _Program(*seconds)
    assert duel(_Program(1.0), other).ratio > 1.1 and other.runs == rounds


def test_one_slow_round_is_no_reason_to_give_up():
    other = _Program(1.3, 0.9)
    duel(_Program(1.0), other)
    assert other.runs == MOST_ROUNDS


def test_a_busy_machine_counts_for_neither():
    # In every third round something else takes half of the machine, from the default alone.
    found = duel(_Program(1.0, 1.0, 2.0), _Program(0.9), rounds=9)
    assert found.ratio == pytest.approx(0.9)
    assert found.fair_seconds[1] == pytest.approx(0.9 * found.default_seconds)


def test_the_end_of_a_process_is_handed_on():
    class Dead:
        def run(self, _seconds):
            raise TrialFailed("its process ended")

    with pytest.raises(TrialFailed):
        duel(_Program(1.0), Dead())
    assert module.BLOCK_SECONDS < 1


def test_quartiles():
    assert quartiles([5.0, 1.0, 3.0, 2.0, 4.0]) == (2.0, 3.0, 4.0)
