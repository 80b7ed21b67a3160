from __future__ import annotations

import pytest

from tilewright.analysis.sizes import evaluated, representatives
from tilewright.compiler.importer.shapes import DEFAULT_BOUNDS


@pytest.mark.parametrize(
    "bounds, sizes",
    [
        ({}, ({},)),
        ({"n": (1, 256)}, ({"n": 1}, {"n": 16}, {"n": 256})),
        ({"n": (0, 4), "m": (16, 16)}, ({"n": 1, "m": 16}, {"n": 2, "m": 16}, {"n": 4, "m": 16})),
        ({"n": (7, 7)}, ({"n": 7},)),
        ({"n": DEFAULT_BOUNDS}, ({"n": 1}, {"n": 8}, {"n": 64})),
    ],
)
def test_ends_and_middle(bounds, sizes):
    assert representatives(bounds) == sizes


def test_shapes_are_evaluated():
    assert evaluated((1, "n * 4 + 1", "(n - 1) // 2", "-m % 8"), {"n": 5, "m": 3}) == (1, 21, 2, 5)


@pytest.mark.parametrize("text", ["k", "n ** 2", "f(n)", "n +", "n // 0", "T.max(n, 1)"])
def test_what_cannot_be_known(text):
    with pytest.raises(ValueError, match="not known before the model runs"):
        evaluated((text,), {"n": 2})
