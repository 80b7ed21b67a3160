from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.net import Net, answers_each

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("shape, open_", [((7,), ("n",)), ((3, 5, 2), (3, "n", 2))])
@pytest.mark.parametrize("kind, dtype", [(models.FLOAT, np.float32), (9, np.bool_)])
def test_where_elements_are_not_zero(shape, open_, kind, dtype, tmp_path):
    net = Net(opset=13)
    net.input("x", open_, kind)
    proto = net.model(net.NonZero("x"))
    each = [RANDOM.integers(0, top, shape).astype(dtype) for top in (2, 3, 1)]
    answers_each(proto, tmp_path, *({"x": x} for x in (*each, np.ones(shape, dtype))))


@pytest.mark.parametrize("axis", [0, -1, None])
@pytest.mark.parametrize("count", [3, "k"])
def test_what_a_condition_keeps(axis, count, tmp_path):
    net = Net(opset=13, x=(4, 3, 5))
    net.input("kept", (count,), 9)
    y = net.Compress("x", "kept", **({} if axis is None else {"axis": axis}))
    proto = net.model(net.Add(y, 1.0))
    x = RANDOM.standard_normal((4, 3, 5)).astype(np.float32)
    each = ([1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0])
    answers_each(proto, tmp_path, *({"x": x, "kept": np.array(kept, bool)} for kept in each))
