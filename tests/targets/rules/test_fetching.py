from __future__ import annotations

import re

import pytest

from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import AVX2, close, run
from tests.targets.rules.machine_code import instructions
from tilewright.ops import GemmSpec
from tilewright.targets.rules.gemm import linear
from tilewright.targets.rules.rule import Given


@pytest.mark.parametrize(
    ("m", "n", "k", "fetches"),
    # Rows of the next tile; shares of the next panel; further rows of four lines that come from
    # memory; nothing, where all is one tile in L2, or where the next panel would not stay there.
    [
        (784, 64, 96, True),
        (96, 3072, 768, True),
        (1, 512, 8192, True),
        (4, 16, 8, False),
        (8, 32, 32768, False),
    ],
)
def test_what_comes_next_is_asked_for(m, n, k, fetches):
    (w,) = floats(0, (k, n))
    code = instructions(linear("main", Given("x"), (m, k), w, (), (), AVX2).kernel, "x86-64-avx2")
    assert any(re.match("prefetch", line) for line in code) == fetches


@pytest.mark.parametrize(("m", "n", "k"), [(61, 48, 33), (13, 4100, 67), ("m", 24, 40)])
def test_fetching_changes_no_number(m, n, k):
    """At the end of b and of the rows, what comes next is what came first."""
    rows = 50 if m == "m" else m
    x, w = floats(1, (rows, k), (k, n))
    _, y = run(GemmSpec("float32", (m, k), w.shape, True), (rows, n), x=x, w=w)
    close(y, x.astype("f8") @ w, k)
