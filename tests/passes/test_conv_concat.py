from __future__ import annotations

import pytest

from tests.net import Net, declined, keeps_numbers, names, outside_groups
from tests.passes.forms import FORMS

CHANNELS = 6


def _conv(net: Net, x: str, inputs: int, outputs: int, kernel: int = 1, **attrs: object) -> str:
    w = net.weight(outputs, inputs, kernel, kernel)
    return net.Conv(x, w, net.weight(outputs), pads=[kernel // 2] * 4, **attrs)


def _inception(net: Net, act: str = "relu") -> str:
    """Figure 2b of Szegedy et al. 2015, small and with odd widths."""
    form = list(FORMS[act].values())[-1]

    def conv(x: str, inputs: int, outputs: int, kernel: int = 1) -> str:
        return form(net, _conv(net, x, inputs, outputs, kernel))

    pooled = net.MaxPool("x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return net.Concat(
        conv("x", CHANNELS, 5),
        conv(conv("x", CHANNELS, 4), 4, 7, 3),
        conv(conv("x", CHANNELS, 2), 2, 3, 5),
        conv(pooled, CHANNELS, 1),
        axis=1,
    )


@pytest.mark.parametrize("act", ["relu", "clip", "silu", "hard_swish"])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (13, 11)], ids=str)
def test_fuses_an_inception_block(size, act, tmp_path):
    net = Net(opset=20, x=(2, CHANNELS, *size))
    work = keeps_numbers(net.model(_inception(net, act)), tmp_path)
    assert names(work) == ["conv_block", "conv_block", "conv_concat"]
    parts = work.fusions.groups[-1].spec.parts
    assert [part.w[0] for part in parts] == [5, 7, 3, 1]
    assert {step.name for part in parts for step in part.epilogue} == {"bias", act}
    # The pool; all else is kernels of the two reductions and of the group.
    assert len(outside_groups(work)) == 1


def test_fuses_parts_that_are_no_convolutions(tmp_path):
    net = Net(x=(1, 4, 6, 5), z=(1, 3, 6, 5))
    y = net.Concat(_conv(net, "x", 4, 2, 3), "z", net.Relu(_conv(net, "x", 4, 5)), axis=-3)
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == ["conv_concat"]
    first, other, last = work.fusions.groups[0].spec.parts
    assert (first.w[0], other, last.w[0]) == (2, (1, 3, 6, 5), 5)


def test_declines_a_part_that_reads_another(tmp_path):
    net = Net(x=(1, 4, 6, 5))
    first = _conv(net, "x", 4, 2, 3)
    work = keeps_numbers(net.model(net.Concat(first, _conv(net, first, 2, 5), axis=1)), tmp_path)
    assert declined(work, "conv_concat") == {"one part reads another"}
    assert names(work) == ["conv_block", "conv_block"]


@pytest.mark.parametrize("count", [2, 6])
def test_fuses_strides_and_an_open_batch(count, tmp_path):
    net = Net(x=("n", 4, 7, 9))
    parts = [_conv(net, "x", 4, 2 + n, 3, strides=[2, 2]) for n in range(count)]
    work = keeps_numbers(net.model(net.Concat(*parts, axis=1)), tmp_path)
    assert names(work) == ["conv_concat"]


def test_declines_another_axis(tmp_path):
    net = Net(x=(1, 4, 6, 6))
    y = net.Concat(*[net.Relu(_conv(net, "x", 4, 4, 3)) for _ in range(2)], axis=2)
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == ["conv_block"] * 2
    assert declined(work, "conv_concat") == {"the concat is along axis 2"}


def test_declines_one_convolution(tmp_path):
    net = Net(x=(1, 4, 6, 6))
    y = net.Concat("x", net.Relu(_conv(net, "x", 4, 4, 3)), axis=1)
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == ["conv_block"]
    assert declined(work, "conv_concat") == {"fewer than two parts are convolutions"}


def test_a_concat_of_other_values_is_no_miss(tmp_path):
    net = Net(x=(1, 4, 6, 6), z=(1, 4, 6, 6))
    work = keeps_numbers(net.model(net.Concat("x", net.Relu("z"), axis=1)), tmp_path)
    assert not declined(work, "conv_concat")


def test_leaves_a_part_with_a_second_reader_alone(tmp_path):
    """With three, the other two are fused; with two, none is."""
    for count in (3, 2):
        net = Net(x=(1, 4, 6, 6))
        parts = [net.Relu(_conv(net, "x", 4, 4, 3)) for _ in range(count)]
        work = keeps_numbers(net.model(net.Concat(*parts, axis=1), net.Neg(parts[0])), tmp_path)
        found = ["conv_block", "conv_concat"] if count == 3 else ["conv_block"] * 2
        assert names(work) == found


def test_a_part_that_conv_block_declines_is_a_value(tmp_path):
    net = Net(x=(1, 4, 6, 6), w=(4, 4, 1, 1))
    y = net.Concat(net.Conv("x", "w"), *[_conv(net, "x", 4, 3) for _ in range(2)], axis=1)
    work = keeps_numbers(net.model(y), tmp_path)
    assert names(work) == ["conv_concat"]
    assert work.fusions.groups[0].spec.parts[0] == (1, 4, 6, 6)
