from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.net import Net, groups, keeps_numbers
from tests.passes.graphs import calls, module
from tilewright.passes.fold_input_affine import fold_input_affine

RNG = np.random.default_rng(4)
W = RNG.standard_normal((4, 3, 2, 2)).astype(np.float32)
S, T = (RNG.standard_normal((1, 3, 1, 1)).astype(np.float32) for _ in range(2))
const, op = relax.const, relax.op
SHAPE = (1, 3, 5, 5)


def _affine(bb, x, scale=S, shift=T):
    return bb.emit(op.add(bb.emit(op.multiply(x, const(scale))), const(shift)))


def _conv(bb, x, w=W, **attrs):
    return bb.emit(op.nn.conv2d(x, const(w), **attrs))


def _after(build):
    return fold_input_affine(module(build, x=SHAPE))


def _unchanged(build, **shapes):
    before = module(build, **shapes or {"x": SHAPE})
    tvm.ir.assert_structural_equal(fold_input_affine(before), before)


def test_folds_a_scale_and_a_shift():
    def expected(bb, x):
        y = _conv(bb, x, (W * S.astype(np.float64)).astype(np.float32))
        bias = (W * T.astype(np.float64)).sum(axis=(1, 2, 3)).astype(np.float32)
        return bb.emit(op.add(y, const(bias.reshape(1, 4, 1, 1))))

    after = _after(lambda bb, x: _conv(bb, _affine(bb, x)))
    tvm.ir.assert_structural_equal(after, module(expected, x=SHAPE))


@pytest.mark.parametrize(
    "attrs", [{}, {"padding": 1}, {"strides": 2}], ids=["plain", "padded", "strided"]
)
def test_folds_a_scale_alone(attrs):
    after = _after(lambda bb, x: _conv(bb, bb.emit(op.multiply(const(S), x)), **attrs))
    assert calls(after) == ["relax.nn.conv2d"]


def test_folds_a_shift_of_zero_where_the_convolution_pads():
    zero = np.zeros_like(T)
    after = _after(lambda bb, x: _conv(bb, _affine(bb, x, shift=zero), padding=1))
    assert calls(after) == ["relax.nn.conv2d"]


def test_declines_a_shift_where_the_convolution_pads():
    _unchanged(lambda bb, x: _conv(bb, _affine(bb, x), padding=[0, 0, 0, 1]))


def test_folds_as_much_as_padding_allows():
    def build(bb, x):
        shifted = bb.emit(op.add(x, const(T)))
        return _conv(bb, bb.emit(op.multiply(shifted, const(S))), padding=1)

    assert calls(_after(build)) == ["relax.add", "relax.nn.conv2d"]


def test_declines_a_shift_before_a_transposed_convolution():
    w = np.ascontiguousarray(W.transpose(1, 0, 2, 3))
    _unchanged(lambda bb, x: bb.emit(op.nn.conv2d_transpose(_affine(bb, x), const(w))))


@pytest.mark.parametrize("shape", [(1, 1, 1, 5), (1, 3, 5, 5), (5, 1), (), (1, 1, 1, 1)], ids=str)
def test_declines_a_constant_that_is_not_one_value_per_channel(shape):
    wide = RNG.standard_normal(shape).astype(np.float32)
    _unchanged(lambda bb, x: _conv(bb, bb.emit(op.multiply(x, const(wide)))))


def test_declines_a_constant_that_widens():
    _unchanged(lambda bb, x: _conv(bb, bb.emit(op.multiply(x, const(S)))), x=(1, 1, 5, 5))


@pytest.mark.parametrize("shared", ["product", "sum"])
def test_leaves_shared_value_alone(shared):
    def build(bb, x):
        values = {"product": bb.emit(op.multiply(x, const(S)))}
        values["sum"] = bb.emit(op.add(values["product"], const(T)))
        return relax.Tuple([_conv(bb, values["sum"]), values[shared]])

    after = calls(_after(build))
    # What nobody else reads may go: the shift, where only the product is shared.
    assert after[0] == "relax.multiply"
    assert after.count("relax.add") == 1


def test_leaves_what_follows_a_convolution_to_it():
    first = RNG.standard_normal((3, 3, 1, 1)).astype(np.float32)
    _unchanged(lambda bb, x: _conv(bb, _affine(bb, _conv(bb, x, first))))


def test_leaves_weights_that_are_computed_alone():
    _unchanged(lambda bb, x, w: bb.emit(op.nn.conv2d(_affine(bb, x), w)), x=SHAPE, w=W.shape)


CONVOLUTIONS = {
    "plain": ((8, 4, 3, 3), {}),
    "strided": ((8, 4, 3, 3), {"strides": [2, 1], "dilations": [1, 2]}),
    "grouped": ((8, 2, 3, 3), {"group": 2}),
    "depthwise": ((8, 1, 3, 3), {"group": 4}),
}


@pytest.mark.parametrize("how", ["native", "written"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_keeps_numbers(kind, how, tmp_path):
    shape, attrs = CONVOLUTIONS[kind]
    net = Net(x=(2, 4, 7, 8))
    if how == "native":
        y = net.BatchNormalization("x", *[net.weight(4, near=2) for _ in range(4)])
    else:
        y = net.Add(net.weight(4, 1, 1), net.Mul("x", net.weight(1, 4, 1, 1)))
    y = net.Relu(net.Conv(y, net.weight(*shape), net.weight(8), **attrs))
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["conv_block bias relu"]


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_keeps_numbers_where_something_pads(value, tmp_path):
    """Padding by the convolution, and by an operator of its own between the two."""
    net = Net(x=(2, 4, 7, 8))
    outputs = []
    for pads in ([1, 1, 1, 1], None):
        y = net.BatchNormalization("x", *[net.weight(4, near=2) for _ in range(4)])
        if pads is None:
            y = net.Pad(y, net.ints(0, 0, 1, 1, 0, 0, 1, 1), net.const(value))
        w = net.weight(8, 4, 3, 3)
        outputs.append(net.Conv(y, w, net.weight(8), **({"pads": pads} if pads else {})))
    keeps_numbers(net.model(*outputs), tmp_path)


@pytest.mark.parametrize("group", [1, 2])
def test_keeps_numbers_of_a_scale_before_a_transposed_convolution(group, tmp_path):
    net = Net(x=(1, 4, 5, 5))
    y = net.Mul("x", net.weight(4, 1, 1))
    y = net.ConvTranspose(y, net.weight(4, 6, 2, 2), group=group)
    assert groups(keeps_numbers(net.model(y), tmp_path)) == ["conv_block"]
