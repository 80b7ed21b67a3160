from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiling import module_of
from tests.examples import examples
from tests.net import Net, keeps_numbers
from tilewright.passes.resize import neighbours

HOW = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")


@given(before=st.integers(1, 40), after=st.integers(1, 90), how=st.sampled_from(HOW))
def test_neighbours_are_inside_and_side_by_side(before, after, how):
    first, second, share = neighbours(before, after, how)
    assert first.shape == second.shape == share.shape == (after,)
    assert first.min() >= 0 and second.max() < before
    assert set(np.unique(second - first)) <= {0, 1} and (share >= 0).all() and (share <= 1).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resize")


@settings(max_examples=examples(14), deadline=None)
@given(
    before=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    after=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    how=st.sampled_from(HOW),
)
def test_agrees_with_onnxruntime(before, after, how, folder):
    net = Net(opset=18, x=(2, 3, *before))
    sizes = net.ints(2, 3, *after)
    y = net.Resize("x", "", "", sizes, mode="linear", coordinate_transformation_mode=how)
    work = keeps_numbers(net.model(y), folder)
    assert all(name.startswith("resize") for name in work.kernels)


@pytest.mark.parametrize("after", [(4, 3), (8, 3), (7, 5)])
def test_infinities_stay(after, folder):
    """ONNX Runtime says NaN where a position is a whole number: a share of nothing of the next."""
    net = Net(opset=18, x=(1, 1, 4, 3))
    y = net.Resize("x", "", "", net.ints(1, 1, *after), mode="linear")
    answer = module_of(net.model(net.Relu(y)), folder)(np.full((1, 1, 4, 3), np.inf, np.float32))
    assert np.isposinf(answer).all()


def test_of_a_convolution_whose_channels_are_last(folder):
    """A result of the model is turned back before it is resized; what goes on is not."""
    net = Net(opset=18, x=(1, 3, 7, 9))
    y = net.Conv("x", net.weight(5, 3, 3, 3))
    up = net.Resize(y, "", "", net.ints(1, 5, 20, 33), mode="linear")
    work = keeps_numbers(net.model(up), folder)
    assert "resize" in work.kernels and "resize2d" not in work.kernels
    again = net.Conv(up, net.weight(4, 5, 1, 1))
    assert "resize2d" in keeps_numbers(net.model(again), folder).kernels
