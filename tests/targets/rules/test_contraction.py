from __future__ import annotations

import numpy as np
import pytest

from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import AVX2, close, run
from tilewright.ops import GemmSpec, Step
from tilewright.targets.rules.blocking import default_blocking


@pytest.mark.parametrize(("n", "k"), [(160, 4100), (193, 2999)])
def test_sums_in_parts(n, k):
    """Rows, columns and k that no knob divides."""
    assert default_blocking("k", 100, n, k, AVX2, runs=1).parts > 1
    x, w, bias = floats(1, (100, k), (k, n), (n,))
    spec = GemmSpec("float32", x.shape, w.shape, True, epilogue=(Step("bias"), Step("relu")))
    _, y = run(spec, (100, n), x=x, w=w, bias=bias)
    close(y, np.maximum(x.astype("f8") @ w + bias, 0), k)


def test_a_block_of_rows_and_a_stretch_of_panels_are_a_piece():
    """Sizes at which every loop of the nest runs more than once, with a tail each."""
    x, w = floats(2, (301, 515), (515, 277))
    _, y = run(GemmSpec("float32", x.shape, w.shape, True), (301, 277), x=x, w=w)
    close(y, x.astype("f8") @ w, 515)
