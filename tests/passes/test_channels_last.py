from __future__ import annotations

import pytest

from tests.net import Net, keeps_numbers
from tilewright.passes.channels_last import place_of, to_last, to_second


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_axes_undo_each_other(rank):
    assert [to_last(rank)[axis] for axis in to_second(rank)] == list(range(rank))
    assert place_of(1, rank) == rank - 1 and place_of(-1, rank) == rank - 2


BETWEEN = {
    "unary": lambda net, y: net.Sqrt(net.Abs(y)),
    "channel_constant": lambda net, y: net.Sub(net.weight(1, 6, 1, 1), y),
    "low_rank_constant": lambda net, y: net.Div(y, net.weight(7)),
    "two_values": lambda net, y: net.Max(y, net.Sin(y)),
    "max_pool": lambda net, y: net.MaxPool(y, kernel_shape=[2, 2], strides=[2, 1]),
    "average_pool": lambda net, y: net.AveragePool(y, kernel_shape=[3, 2], pads=[1, 0, 1, 1]),
    "concat": lambda net, y: net.Concat(y, net.Sin(y), axis=1),
    "concat_rows": lambda net, y: net.Concat(y, net.Sin(y), axis=2),
    "mean": lambda net, y: net.Sub(y, net.ReduceMean(y, axes=[2, 3], keepdims=1)),
    "sum": lambda net, y: net.Sub(y, net.ReduceSum(y, net.ints(2, 3), keepdims=1)),
    "max": lambda net, y: net.ReduceMax(net.Sin(y), axes=[2, 3], keepdims=0),
    "min": lambda net, y: net.ReduceMin(net.Sin(y), axes=[-1, 2], keepdims=0),
    "some_positions": lambda net, y: net.ReduceMax(net.Sin(y), axes=[2], keepdims=0),
    "channels_too": lambda net, y: net.ReduceMax(net.Sin(y), axes=[1, 2, 3], keepdims=0),
    "resize": lambda net, y: net.Resize(y, "", net.const([1.0, 1.0, 2.0, 2.0]), mode="nearest"),
    "transpose_by_hand": lambda net, y: net.Softmax(net.Transpose(y, perm=[0, 2, 3, 1]), axis=-1),
    "flatten": lambda net, y: net.Reshape(y, net.ints(1, 6, -1)),
    "no_such_form": lambda net, y: net.Softmax(y, axis=1),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_what_stands_between_convolutions(between, tmp_path):
    net = Net(x=(1, 3, 8, 7))
    y = net.Conv("x", net.weight(6, 3, 3, 3), pads=[1, 1, 1, 1])
    work = keeps_numbers(net.model(BETWEEN[between](net, y)), tmp_path)
    assert any(name.startswith("conv_block") for name in work.kernels)
