from __future__ import annotations

import numpy as np

from tests.targets.rules.convolutions import floats, reference
from tests.targets.rules.lowering import close, run
from tilewright.ops import ConcatSpec, ConvChainSpec, ConvSpec, Step


def test_chain():
    x, first_w, w = floats(4, (1, 5, 9, 9), (12, 5, 1, 1), (12, 1, 3, 3))
    first = ConvSpec(
        "float32", x.shape, first_w.shape, (1, 1), (0,) * 4, (1, 1), epilogue=(Step("relu"),)
    )
    second = ConvSpec("float32", (1, 12, 9, 9), w.shape, (2, 2), (1,) * 4, (1, 1), 12)
    spec = ConvChainSpec("float32", first, second)
    exact = reference(np.maximum(reference(x, first_w, first), 0), w, second)
    name, y = run(spec, exact.shape, x=x, first_w=first_w, w=w)
    assert name == "conv_chain"
    close(y, exact, 20)


def test_concat():
    a, b, w0, w2 = floats(5, (1, 4, 6, 6), (1, 3, 6, 6), (5, 4, 1, 1), (7, 4, 3, 3))
    parts = (
        ConvSpec("float32", a.shape, w0.shape, (1, 1), (0,) * 4, (1, 1)),
        b.shape,
        ConvSpec("float32", a.shape, w2.shape, (1, 1), (1,) * 4, (1, 1)),
    )
    exact = np.concatenate([reference(a, w0, parts[0]), b, reference(a, w2, parts[2])], 1)
    arrays = {"0_x": a, "0_w": w0, "1_value": b, "2_x": a, "2_w": w2}
    name, y = run(ConcatSpec("float32", parts), exact.shape, **arrays)
    assert name == "conv_concat"
    close(y, exact, 36)
