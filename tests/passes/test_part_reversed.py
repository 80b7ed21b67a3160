from __future__ import annotations

import numpy as np
import pytest

from tests.compiling import compile_here
from tests.net import Net, keeps_numbers


@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 4, 8, 5)])
def test_a_reshape_before_what_reads_backwards(shape, reverse, tmp_path):
    net = Net(x=shape)
    flat = net.Reshape("x", net.ints(shape[0], -1))
    backwards = net.Slice(flat, net.ints(-1), net.ints(-1000), net.ints(1), net.ints(-1))
    proto = net.model(net.CumSum(flat, net.const(1, np.int64), reverse=reverse), net.Neg(backwards))
    keeps_numbers(proto, tmp_path)


def test_what_reads_forwards_is_fused(tmp_path):
    net = Net(x=(2, 3))
    kernels = compile_here(net.model(net.Neg(net.Cos("x"))), tmp_path).kernels
    assert len(kernels) == 1
