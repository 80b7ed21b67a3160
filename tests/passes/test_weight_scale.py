from __future__ import annotations

import numpy as np
import pytest

from tests.net import Net, groups, keeps_numbers


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("groups_of", [1, 2, 4])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_scales_the_channels_that_the_convolution_writes(op, groups_of, rank, tmp_path):
    net = Net(x=(2, 4, *[5] * rank))
    kernel = [3] * rank
    shape = (8, 4 // groups_of) if op == "Conv" else (4, 8 // groups_of)
    y = net.add(op, "x", net.weight(*shape, *kernel), net.weight(8), group=groups_of)
    stats = [net.weight(8, near=2) for _ in range(4)]
    y = net.Relu(net.BatchNormalization(y, *stats))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["conv_block bias relu"]


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_scales_by_one_number(op, tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = net.Mul(net.add(op, "x", net.weight(4, 4, 2, 2), net.weight(4)), np.float32(1.7))
    assert groups(keeps_numbers(net.model(y), tmp_path)) == ["conv_block bias"]


def test_leaves_weights_that_are_computed_alone(tmp_path):
    net = Net(x=(1, 4, 5, 5), w=(4, 4, 2, 2))
    y = net.Mul(net.Conv("x", "w"), 1.7)
    assert groups(keeps_numbers(net.model(y), tmp_path)) == []
