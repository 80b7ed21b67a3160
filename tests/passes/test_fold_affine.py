from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.net import Net, keeps_numbers
from tests.passes.graphs import calls, module
from tilewright.ops import Step
from tilewright.passes.fold_affine import fold_affine

RNG = np.random.default_rng(3)
W = RNG.standard_normal((4, 3, 2, 2)).astype(np.float32)
B, S, T = (RNG.standard_normal((1, 4, 1, 1)).astype(np.float32) for _ in range(3))
const, op = relax.const, relax.op
SHAPE = (1, 3, 5, 5)


def _conv(bb, x, w=W):
    return bb.emit(op.nn.conv2d(x, const(w)))


def _after(build):
    return fold_affine(module(build, x=SHAPE))


def test_folds_a_scale_and_a_shift():
    def before(bb, x):
        y = bb.emit(op.add(_conv(bb, x), const(B)))
        return bb.emit(op.add(bb.emit(op.multiply(const(S), y)), const(T)))

    def expected(bb, x):
        y = _conv(bb, x, W * S.reshape(4, 1, 1, 1))
        return bb.emit(op.add(y, const(B * S + T)))

    tvm.ir.assert_structural_equal(_after(before), module(expected, x=SHAPE))


def test_folds_a_scale_without_a_bias():
    after = _after(lambda bb, x: bb.emit(op.multiply(_conv(bb, x), const(S[0]))))
    assert calls(after) == ["relax.nn.conv2d"]


@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (4,), (1, 4, 4, 4), (4, 4)], ids=str)
def test_declines_a_constant_along_another_axis(shape):
    wide = const(RNG.standard_normal(shape).astype(np.float32))
    before = module(lambda bb, x: bb.emit(op.multiply(_conv(bb, x), wide)), x=SHAPE)
    tvm.ir.assert_structural_equal(fold_affine(before), before)


@pytest.mark.parametrize("shared", ["conv", "sum"])
def test_leaves_shared_value_alone(shared):
    def build(bb, x):
        values = {"conv": _conv(bb, x)}
        values["sum"] = bb.emit(op.add(values["conv"], const(B)))
        y = bb.emit(op.multiply(values["sum"], const(S)))
        return bb.emit(op.concat([y, values[shared]], axis=1))

    before = module(build, x=SHAPE)
    tvm.ir.assert_structural_equal(fold_affine(before), before)


def test_leaves_an_unknown_shape_alone():
    def build(bb, x):
        return bb.emit(op.add(bb.emit(op.multiply(bb.emit(op.exp(x)), const(S))), const(T)))

    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(None, "float32", ndim=4))
    with bb.function("main", [x]):
        with bb.dataflow():
            out = bb.emit_output(build(bb, x))
        bb.emit_func_output(out)
    assert calls(fold_affine(bb.get())) == ["relax.exp", "relax.multiply", "relax.add"]


@pytest.mark.parametrize("order", ["scale_shift", "shift_scale", "shift_shift", "scale_scale"])
def test_keeps_numbers(order, tmp_path):
    net = Net(x=(2, 3, 5, 5))
    y = net.Conv("x", net.weight(4, 3, 2, 2), net.weight(4))
    for word in order.split("_"):
        add = net.Mul if word == "scale" else net.Add
        y = add(net.weight(1, 4, 1, 1), add(y, 1.25))
    work = keeps_numbers(net.model(y), tmp_path)
    assert [g.spec.epilogue for g in work.fusions.groups] == [(Step("bias"),)]
