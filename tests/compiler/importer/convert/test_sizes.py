from __future__ import annotations

import numpy as np
import pytest

from tests.compiling import module_of
from tests.net import Net
from tilewright.errors import UnsupportedModel


def test_how_many_sizes_there_are_must_be_known(tmp_path):
    net = Net(x=(4, 6))
    net.input("shape", ("k",))
    y = net.Reshape("x", "shape")
    proto = net.model(net.Flatten(y))
    with pytest.raises(UnsupportedModel) as info:
        module_of(proto, tmp_path)
    assert "it is not known how many sizes there are" in str(info.value)
    assert "n_reshape0 (Reshape)" in info.value.where


def test_the_result_of_shape_is_a_tensor_where_one_is_needed(tmp_path):
    net = Net(x=("n", 3))
    proto = net.model(net.Sub(net.Shape("x"), net.ints(1, 1)))
    module = module_of(proto, tmp_path)
    for rows in (1, 5):
        assert module(np.zeros((rows, 3), np.float32)).tolist() == [rows - 1, 2]


def test_an_input_without_elements(tmp_path):
    net = Net(x=(0, 3))
    module = module_of(net.model(net.Add("x", 1.0)), tmp_path)
    assert module(np.zeros((0, 3), np.float32)).shape == (0, 3)
