from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.compiling import module_of
from tests.net import Net, answers_each

X = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3, 4)).astype(np.float32)
FLAGS = pytest.mark.parametrize("exclusive, reverse", [(0, 0), (0, 1), (1, 0), (1, 1)])


@FLAGS
@pytest.mark.parametrize("axis", [0, -1])
def test_sums_of_all_before(axis, exclusive, reverse, tmp_path):
    net = Net(opset=14, x=X.shape)
    y = net.CumSum("x", net.const(axis, np.int64), exclusive=exclusive, reverse=reverse)
    answers_each(net.model(y), tmp_path, {"x": X})


@FLAGS
def test_along_an_axis_that_is_computed(exclusive, reverse, tmp_path):
    net = Net(opset=14, x=("a", "b", "c"))
    net.input("axis", ())
    proto = net.model(net.CumSum("x", "axis", exclusive=exclusive, reverse=reverse))
    answers_each(proto, tmp_path, *({"x": X, "axis": np.array(a)} for a in (0, 1, 2, -1, -3)))


def test_integers(tmp_path):
    net = Net(opset=14)
    net.input("x", (5,), models.onnx.TensorProto.INT32)
    proto = net.model(net.CumSum("x", net.const(0, np.int32)))
    answers_each(proto, tmp_path, {"x": np.int32([3, -1, 4, 1, -5])})


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_products_of_all_before(axis, tmp_path):
    """ONNX Runtime has no CumProd."""
    net = Net(opset=26, x=X.shape)
    net.input("axis", ())
    y = module_of(net.model(net.CumProd("x", "axis")), tmp_path)({"x": X, "axis": np.array(axis)})
    np.testing.assert_allclose(y, np.cumprod(X, axis), rtol=1e-5)
