from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tvm import relax

from tests.compiling import compile_here, module_of, reference
from tests.net import Net, keeps_numbers
from tilewright.compiler.build import called_kernels


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
    y = net.Conv("x", net.weight(4, 2, 1, 2, 2), group=2)
    work = compile_here(net.model(y), tmp_path, until="lower")
    assert set(work.refusals) == {"conv_block_0"}


def test_open_sizes_between_the_kernels_of_a_group(tmp_path):
    net = Net(x=("n", 8))
    hidden = net.Relu(net.MatMul("x", net.weight(8, 16)))
    keeps_numbers(net.model(net.MatMul(hidden, net.weight(16, 8))), tmp_path)


def test_an_open_batch_keeps_its_channels_last(tmp_path):
    """Through convolutions of all kinds, a pool, a concat and a reshape of the positions."""
    net = Net(x=("n", 4, 9, 9))
    y = net.MaxPool(_conv(net, "x", 4, 8), kernel_shape=[3, 3])
    filtered = net.Relu(net.Conv(y, net.weight(8, 1, 3, 3), pads=[1] * 4, group=8))
    y = net.Concat(filtered, net.Conv(y, net.weight(8, 2, 1, 1), group=4), axis=1)
    y = net.ConvTranspose(y, net.weight(16, 6, 2, 2), strides=[2, 2])
    y = net.Reshape(y, net.ints(0, 6, 196))
    model = net.model(net.Transpose(y, perm=[0, 2, 1]))
    assert _calls(compile_here(model, tmp_path, until="lower"))["relax.permute_dims"] == 1
    work = keeps_numbers(model, tmp_path)
    assert not work.refusals


def test_paths_that_meet_at_open_sizes_keep_their_channels_last(tmp_path):
    """That they agree is checked on what has its channels last."""
    net = Net(x=(1, 4, "h", "w"))
    top = _conv(net, "x", 4, 8)
    low = net.Relu(net.Conv(top, net.weight(8, 8, 3, 3), pads=[1] * 4, strides=[2, 2]))
    up = net.Resize(low, "", net.const([1, 1, 2, 2]), mode="nearest", nearest_mode="floor")
    model = net.model(_conv(net, net.Add(up, top), 8, 5))
    work = compile_here(model, tmp_path, until="legalize")
    used = relax.transform.DeadCodeElimination()(work.mod)
    kernels = [row for row in called_kernels(used) if "transpose" in row]
    assert len(kernels) == 2, kernels
    module = module_of(model, tmp_path)
    for height, width in ((8, 12), (14, 6)):
        x = np.random.default_rng(0).standard_normal((1, 4, height, width), np.float32)
        wanted = reference(model, {"x": x})[0]
        np.testing.assert_allclose(module(x), wanted, atol=1e-5 * np.abs(wanted).max())


def test_an_open_number_of_long_rows(tmp_path):
    """Long enough that they are summed in parts, whatever their number is."""
    net = Net(x=("n", 3001))
    keeps_numbers(net.model(net.MatMul("x", net.weight(3001, 203))), tmp_path)


def _branch(op: str, of: str) -> onnx.GraphProto:
    out = helper.make_empty_tensor_value_info(op)
    return helper.make_graph([helper.make_node(op, [of], [op])], op, [], [out])


@pytest.mark.parametrize("way", [False, True])
def test_branches_between_kernels(way, tmp_path):
    net = Net(x=(1, 4, 6, 6))
    y = _conv(net, "x", 4, 8)
    which = net.input("way", (), TensorProto.BOOL)
    y = net.If(which, then_branch=_branch("Abs", y), else_branch=_branch("Neg", y))
    model = net.model(_conv(net, y, 8, 4))
    work = keeps_numbers(model, tmp_path, given={"way": np.array(way)})
    assert len(work.fusions.groups) == 2 and not work.refusals


def test_slopes_along_another_axis_than_the_channels(tmp_path):
    """As many rows and columns as channels: only the axis tells them apart."""
    net = Net(x=(1, 4, 4, 4))
    convs = [net.Conv("x", net.weight(4, 4, 1, 1)) for _ in range(3)]
    slopes = [net.weight(*shape) for shape in ((4,), (1, 4, 1), (4, 1, 1))]
    work = keeps_numbers(net.model(*map(net.PRelu, convs, slopes)), tmp_path)
    assert len(work.refusals) == 2


def test_equal_groups_of_which_one_knows_its_mask(tmp_path):
    net = Net(x=(1, 2, 5, 8), mask=(1, 1, 5, 5))

    def attention(x: str, mask: str) -> str:
        scores = net.MatMul(x, net.Transpose(x, perm=[0, 1, 3, 2]))
        return net.MatMul(net.Softmax(net.Add(scores, mask), axis=-1), x)

    y = attention(attention("x", net.weight(1, 1, 5, 5)), "mask")
    work = keeps_numbers(net.model(y), tmp_path)
    assert [group.kernel for group in work.fusions.groups] == ["attention_0"] * 2
