from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.net import Net, answers_each

RANDOM = np.random.default_rng(5)


def _model(shape, kind=models.FLOAT, outputs: int = 4, **attrs):
    net = Net(opset=13)
    net.input("x", shape, kind)
    made = net.add("Unique", "x", outputs=outputs, **attrs)
    return net.model(*([made] if outputs == 1 else made))


@pytest.mark.parametrize("sorted_", [0, 1])
@pytest.mark.parametrize("kind, dtype", [(models.FLOAT, np.float32), (models.INT64, np.int64)])
def test_numbers(sorted_, kind, dtype, tmp_path):
    proto = _model(("n",), kind, sorted=sorted_)
    each = [RANDOM.integers(-top, top, n).astype(dtype) for n, top in ((1, 3), (2, 1), (23, 6))]
    answers_each(proto, tmp_path, *({"x": x} for x in (*each, np.zeros(8, dtype))))


@pytest.mark.parametrize("sorted_", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_slices(sorted_, axis, tmp_path):
    proto = _model((5, 7, 3), axis=axis, sorted=sorted_)
    x = RANDOM.integers(0, 2, (5, 7, 3)).astype(np.float32)
    x[3], x[:, 5], x[:, :, 2] = x[1], x[:, 0], x[:, :, 0]
    answers_each(proto, tmp_path, {"x": x}, {"x": np.zeros_like(x)})


def test_all_elements_of_a_matrix(tmp_path):
    x = RANDOM.integers(0, 9, (3, 7)).astype(np.float32)
    answers_each(_model((3, 7), outputs=1), tmp_path, {"x": x})
    answers_each(_model((3, 7), outputs=3), tmp_path, {"x": x})


def test_what_is_no_number_comes_last_and_once(tmp_path):
    from tests.compiling import module_of

    x = np.float32([2, np.nan, -1, np.nan, 2])
    y, first, which, often = module_of(_model((5,)), tmp_path)(x)
    np.testing.assert_array_equal(y, np.float32([-1, 2, np.nan]))
    assert first.tolist() == [2, 0, 1] and which.tolist() == [1, 2, 0, 2, 1]
    assert often.tolist() == [1, 2, 2]
