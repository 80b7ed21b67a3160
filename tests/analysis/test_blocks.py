from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.analysis.blocks import Run, runs_of


@pytest.mark.parametrize(
    ("items", "runs"),
    [
        ("", []),
        ("abcd", []),
        ("aaaa", []),
        ("abab", [Run(0, 2, 2)]),
        ("xabcabcabcy", [Run(1, 3, 3)]),
        ("ababcdcdcd", [Run(0, 2, 2), Run(4, 2, 3)]),
        ("aabaabaab", [Run(0, 3, 3)]),
        ("abababc", [Run(0, 2, 3)]),
        # a pair inside a longer block does not hide the block
        ("ababcababc", [Run(0, 5, 2)]),
        ("xyabxyabcdxyabxyabcd", [Run(0, 10, 2)]),
    ],
)
def test_runs(items, runs):
    assert runs_of(items) == runs


@given(st.lists(st.sampled_from("abc"), max_size=60))
def test_runs_are_what_they_say(items):
    end = 0
    for run in runs_of(items):
        block = items[run.start : run.start + run.length]
        assert run.count > 1 and run.start >= end
        assert items[run.start : run.stop] == block * run.count
        end = run.stop


@given(
    st.lists(st.sampled_from("abcdef"), min_size=2, max_size=12, unique=True),
    st.integers(2, 6),
)
def test_a_repeated_block_is_found(block, count):
    assert runs_of(block * count) == [Run(0, len(block), count)]
