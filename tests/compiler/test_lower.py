from __future__ import annotations

from collections import Counter

from tvm import relax

from tests.compiling import compile_here
from tests.net import Net, keeps_numbers


def _calls(work) -> Counter:
    values = [b.value for block in work.mod["main"].body.blocks for b in block.bindings]
    return Counter(v.op.name for v in values if isinstance(v, relax.Call))


def _conv(net: Net, y: str, into: int, out: int) -> str:
    return net.Relu(net.Conv(y, net.weight(out, into, 3, 3), pads=[1, 1, 1, 1]))


def test_one_transpose_in_and_one_out(tmp_path):
    net = Net(x=(1, 4, 9, 9))
    y = _conv(net, _conv(net, net.MaxPool(_conv(net, "x", 4, 8), kernel_shape=[3, 3]), 8, 8), 8, 5)
    model = net.model(y)
    assert _calls(compile_here(model, tmp_path, until="lower"))["relax.permute_dims"] == 2
    keeps_numbers(model, tmp_path)


def test_equal_groups_share_a_kernel_and_not_their_weights(tmp_path):
    net = Net(x=(1, 8, 6, 6))
    y = _conv(net, _conv(net, "x", 8, 8), 8, 8)
    work = keeps_numbers(net.model(y), tmp_path)
    counts = Counter(work.kernels)
    assert counts["conv_block_0"] == 2


def test_refusals_are_kept(tmp_path):
    net = Net(x=(1, 4, 3, 5, 5))
    y = net.Conv("x", net.weight(4, 4, 1, 2, 2))
    work = compile_here(net.model(y), tmp_path, until="lower")
    assert set(work.refusals) == {"conv_block_0"}


def test_open_sizes_between_the_kernels_of_a_group(tmp_path):
    net = Net(x=("n", 8))
    hidden = net.Relu(net.MatMul("x", net.weight(8, 16)))
    keeps_numbers(net.model(net.MatMul(hidden, net.weight(16, 8))), tmp_path)
