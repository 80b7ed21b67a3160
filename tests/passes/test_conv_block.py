from __future__ import annotations

import numpy as np
import pytest

from tests.net import Net, declined, fused, groups, keeps_numbers, outside_groups

CHANNELS = 4


def _norm(net: Net, y: str, how: str) -> str:
    """Batch normalisation as an operator, or written out with one or two operators more."""
    if how == "native":
        return net.BatchNormalization(y, *[net.weight(CHANNELS, near=2) for _ in range(4)])
    rank = len(net.shape)
    shape = (CHANNELS, *[1] * (rank - 2))
    if how == "written_with_batch":
        shape = (1, *shape)
    return net.Add(net.Mul(y, net.weight(*shape, near=1)), net.weight(*shape))


KINDS = {
    "conv1d": ((2, 3, 9), lambda n: n.Conv("x", n.weight(4, 3, 3), n.weight(4))),
    "conv2d": ((1, 3, 7, 5), lambda n: n.Conv("x", n.weight(4, 3, 3, 3), pads=[1, 1, 1, 1])),
    "conv3d": ((1, 3, 5, 4, 3), lambda n: n.Conv("x", n.weight(4, 3, 2, 2, 2), n.weight(4))),
    "strided": ((1, 3, 7, 7), lambda n: n.Conv("x", n.weight(4, 3, 3, 3), strides=[2, 1])),
    "depthwise": ((1, 4, 7, 7), lambda n: n.Conv("x", n.weight(4, 1, 3, 3), group=4)),
    "grouped": ((1, 6, 7, 7), lambda n: n.Conv("x", n.weight(4, 3, 3, 3), group=2)),
    "transposed": (
        (1, 3, 5, 5),
        lambda n: n.ConvTranspose("x", n.weight(3, 4, 2, 2), n.weight(4), strides=[2, 2]),
    ),
    "transposed1d": ((1, 3, 5), lambda n: n.ConvTranspose("x", n.weight(3, 4, 3))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_fuses_each_kind_of_convolution_with_each_kind_of_batch_norm(kind, tmp_path):
    shape, conv = KINDS[kind]
    net = Net(x=shape)
    outputs = [
        net.Relu(_norm(net, conv(net), how)) for how in ("native", "written", "written_with_batch")
    ]
    work = keeps_numbers(net.model(*outputs), tmp_path)
    assert groups(work) == ["conv_block bias relu"] * 3


def test_the_spec_says_what_is_computed(tmp_path):
    net = Net(x=(2, 8, 9, 9))
    y = net.Conv("x", net.weight(8, 1, 3, 3), group=8, strides=[2, 2], pads=[1, 0, 1, 0])
    spec = fused(net.model(y), tmp_path).fusions.groups[0].spec
    assert (spec.x, spec.w, spec.groups, spec.depthwise) == ((2, 8, 9, 9), (8, 1, 3, 3), 8, True)
    assert (spec.strides, spec.padding, spec.dilation) == ((2, 2), (1, 0, 1, 0), (1, 1))
    assert not spec.transposed and spec.epilogue == () and spec.dtype == "float32"


def _conv(net: Net, x: str = "x", inputs: int = 4) -> str:
    w = net.weight(CHANNELS, inputs, 3, 3)
    return net.Conv(x, w, net.weight(CHANNELS), pads=[1, 1, 1, 1])


@pytest.mark.parametrize("order", ["conv_first", "residual_first"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_fuses_a_residual_before_or_after_the_activation(place, order, tmp_path):
    net = Net(x=(1, 4, 5, 5), r=(1, 4, 5, 5))
    y = _conv(net)
    y = net.Relu(y) if place == "after" else y
    y = net.Add(y, "r") if order == "conv_first" else net.Add("r", y)
    y = net.Relu(y) if place == "before" else y
    steps = "residual relu" if place == "before" else "relu residual"
    assert groups(keeps_numbers(net.model(y), tmp_path)) == [f"conv_block bias {steps}"]


def test_fuses_two_residuals(tmp_path):
    net = Net(x=(1, 4, 5, 5), r=(1, 4, 5, 5), s=(1, 4, 5, 5))
    y = net.Add("s", net.Relu(net.Add(_conv(net), "r")))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["conv_block bias residual relu residual"]


def test_fuses_the_max_pool_of_a_stem(tmp_path):
    net = Net(x=(1, 3, 16, 16))
    y = net.Conv("x", net.weight(4, 3, 7, 7), strides=[2, 2], pads=[3, 3, 3, 3])
    y = net.MaxPool(
        net.Relu(_norm(net, y, "native")), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    )
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["conv_block bias relu max_pool"]
    pool = work.fusions.groups[0].spec.epilogue[-1]
    assert str(pool) == "max_pool(3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 0)"


def test_the_spec_of_a_transposed_one_has_its_output_padding(tmp_path):
    net = Net(x=(1, 3, 5, 5))
    y = net.ConvTranspose("x", net.weight(3, 4, 3, 3), strides=[2, 2], output_padding=[1, 0])
    spec = keeps_numbers(net.model(y), tmp_path).fusions.groups[0].spec
    assert spec.transposed and spec.output_padding == (1, 0)


def test_fuses_slopes_per_channel(tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = net.PRelu(_conv(net), net.weight(4, 1, 1, near=0.2))
    assert groups(keeps_numbers(net.model(y), tmp_path)) == ["conv_block bias prelu"]


def test_fuses_an_open_batch(tmp_path):
    net = Net(x=("n", 4, 5, 5), r=("n", 4, 5, 5))
    y = net.Relu(net.Add(_conv(net), "r"))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["conv_block bias residual relu"]
    assert work.fusions.groups[0].spec.x == ("n", 4, 5, 5)


def test_declines_weights_that_are_computed(tmp_path):
    net = Net(x=(1, 4, 5, 5), w=(4, 4, 3, 3))
    work = keeps_numbers(net.model(net.Relu(net.Conv("x", "w"))), tmp_path)
    assert groups(work) == []
    assert declined(work, "conv_block") == {"the weights are computed at run time"}


def test_declines_a_bias_along_another_axis(tmp_path):
    net = Net(x=(1, 4, 6, 4), r=(1, 4, 6, 4))  # As many columns as channels.
    y = net.Conv("x", net.weight(4, 4, 1, 1))
    y = net.Add(net.Add(y, net.weight(4)), "r")
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["conv_block"]
    reason = "bias has shape (4,), want one value per channel of (1, 4, 6, 4)"
    assert reason in declined(work, "conv_block")


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (4, 5, 5), (1, 1, 5, 5), (1,)])
def test_declines_a_residual_that_broadcasts(shape, tmp_path):
    net = Net(x=(1, 4, 5, 5), r=shape)
    work = keeps_numbers(net.model(net.Relu(net.Add(_conv(net), "r"))), tmp_path)
    assert groups(work) == ["conv_block bias"]
    assert declined(work, "conv_block") == {f"what is added has shape {shape}, want (1, 4, 5, 5)"}


def test_declines_a_residual_that_widens_the_result(tmp_path):
    net = Net(x=(1, 4, 5, 5), r=(3, 4, 5, 5))
    work = keeps_numbers(net.model(net.Relu(net.Add(_conv(net), "r"))), tmp_path)
    assert groups(work) == ["conv_block bias"]


def test_fuses_open_sizes(tmp_path):
    net = Net()
    net.input("x", (1, 4, "h", "w"), 1)
    work = keeps_numbers(net.model(net.Relu(_conv(net))), tmp_path)
    assert groups(work) == ["conv_block bias relu"]
    assert work.fusions.groups[0].spec.x == (1, 4, "h", "w")


@pytest.mark.parametrize("shared", ["conv", "residual", "activation"])
def test_leaves_shared_value_alone(shared, tmp_path):
    """Each value in turn has a second reader: what comes before it is fused, and it stays."""
    net = Net(x=(1, 4, 5, 5), r=(1, 4, 5, 5))
    values = {"conv": _conv(net)}
    values["residual"] = net.Add(values["conv"], "r")
    values["activation"] = net.Relu(values["residual"])
    y = net.MaxPool(values["activation"], kernel_shape=[2, 2])
    work = keeps_numbers(net.model(y, net.Neg(values[shared])), tmp_path)
    first = {
        "conv": "conv_block bias",
        "residual": "conv_block bias residual",
        "activation": "conv_block bias residual relu",
    }
    assert groups(work)[0] == first[shared]
    assert any(
        f"n_{values[shared]} (" in why and "has a second reader" in why
        for why in declined(work, "conv_block")
    )


def test_leaves_an_output_alone(tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = _conv(net)
    work = keeps_numbers(net.model(net.Relu(y), y), tmp_path)
    assert groups(work) == ["conv_block bias"]


def test_stops_at_a_cast(tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = net.Cast(net.Cast(_conv(net), to=10), to=1)
    work = keeps_numbers(net.model(net.Relu(y)), tmp_path)
    assert groups(work) == ["conv_block bias"]


def test_a_wide_constant_is_a_residual_and_no_bias(tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = net.Conv("x", net.weight(4, 4, 1, 1))
    y = net.Relu(net.Add(y, net.weight(1, 4, 5, 5)))
    assert groups(keeps_numbers(net.model(y), tmp_path)) == ["conv_block residual relu"]


def test_a_bias_may_be_one_number(tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = net.Relu(net.Add(net.Conv("x", net.weight(6, 4, 3, 3)), 0.5))
    assert groups(keeps_numbers(net.model(y), tmp_path)) == ["conv_block bias relu"]


def test_equal_blocks_share_a_kernel(tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = "x"
    for _ in range(3):
        y = net.Relu(_conv(net, y))
    work = keeps_numbers(net.model(y), tmp_path)
    assert len({group.function for group in work.fusions.groups}) == 3
    assert len({group.kernel for group in work.fusions.groups}) == 1
    assert outside_groups(work) == [] and work.kernels.count("conv_block_0") == 3


def test_infinities_and_nan_stay_where_they_are(tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = net.Relu(net.Conv("x", net.const(np.eye(4).reshape(4, 4, 1, 1)), net.weight(4)))
    x = np.ones((1, 4, 5, 5), np.float32)
    x[0, :, 2, 2] = np.nan
    keeps_numbers(net.model(y), tmp_path, given={"x": x})
