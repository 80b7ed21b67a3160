from __future__ import annotations

import numpy as np
import pytest

from tests.net import Net, answers_each, keeps_numbers

_HOW = ("SAME_UPPER", "SAME_LOWER")


def _conv(net: Net, kernel: int, stride: int, dilation: int, how: str) -> str:
    return net.Conv(
        "x",
        net.weight(5, 3, kernel, kernel),
        strides=[stride, stride],
        dilations=[dilation, dilation],
        auto_pad=how,
    )


@pytest.mark.parametrize("how", _HOW)
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (4, 1, 1), (2, 3, 1)])
def test_a_convolution_of_known_sizes_is_padded_where_it_reads(
    kernel, stride, dilation, how, tmp_path
):
    net = Net(x=(1, 3, 8, 9))
    work = keeps_numbers(net.model(_conv(net, kernel, stride, dilation, how)), tmp_path)
    assert not any(name.startswith("pad") for name in work.kernels)


@pytest.mark.parametrize("how", _HOW)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 3), (2, 3), (3, 1)])
def test_a_convolution_of_open_sizes(kernel, stride, how, tmp_path):
    net = Net(x=(1, 3, "h", "w"))
    work = keeps_numbers(net.model(_conv(net, kernel, stride, 1, how)), tmp_path)
    assert any(name.startswith("pad") for name in work.kernels) == (stride > 1)


_POOLS = {
    "MaxPool": {},
    "AveragePool": {},
    "AveragePool, padding counts": {"count_include_pad": 1},
}


@pytest.mark.parametrize("how", _HOW)
@pytest.mark.parametrize("name", _POOLS)
@pytest.mark.parametrize("sizes", [(8, 9), ("h", "w")], ids=["known", "open"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (3, 1)])
def test_pools(kernel, stride, sizes, name, how, tmp_path):
    net = Net(x=(1, 3, *sizes))
    window = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "auto_pad": how}
    y = net.add(name.partition(",")[0], net.Sub("x", 3.0), **window, **_POOLS[name])
    keeps_numbers(net.model(y), tmp_path)


@pytest.mark.parametrize("size", [7, "n"])
def test_means_under_windows_with_gaps_that_begin_before_the_first_number(size, tmp_path):
    net = Net(opset=20, x=(1, 2, 7, size))
    window = {"kernel_shape": [5, 3], "dilations": [1, 2], "strides": [2, 2]}
    proto = net.model(net.AveragePool("x", pads=[0, 2, 2, 1], **window))
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 7)).astype(np.float32)
    answers_each(proto, tmp_path, {"x": x})
