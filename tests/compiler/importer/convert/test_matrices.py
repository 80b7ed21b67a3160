from __future__ import annotations

import numpy as np
import pytest

from tests.net import Net, answers_each


@pytest.mark.parametrize("shape", [(5, 5), (2, 3, 4, 4), ("n", 3, 3), (1, 1)])
def test_determinants(shape, tmp_path):
    proto = Net(opset=13, x=shape)
    proto = proto.model(proto.Det("x"))
    sizes = [4 if size == "n" else size for size in shape]
    x = np.random.default_rng(2).standard_normal(sizes).astype(np.float32)
    singular, turned = x.copy(), x.copy()
    singular[..., 0, :] = 0
    # The first pivot is 0.
    turned[..., 0, 0] = 0
    answers_each(proto, tmp_path, *({"x": v} for v in (x, singular, turned)), tolerance=1e-4)
