from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.net import Net, groups, keeps_numbers, outside_groups
from tests.passes.graphs import module
from tilewright.passes.simplify import simplify

const, op = relax.const, relax.op
SHAPE = (1, 4, 5, 6)
TO_NHWC, TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
BIAS = np.random.default_rng(6).standard_normal((1, 1, 1, 4)).astype(np.float32)


def _becomes(before, expected, **shapes):
    """Both with a first operator, so that a result is never an input."""
    shapes = shapes or {"x": SHAPE}
    first = lambda bb, x: bb.emit(op.exp(x))  # noqa: E731
    after = simplify(module(lambda bb, *x: before(bb, first(bb, x[0]), *x[1:]), **shapes))
    wanted = module(lambda bb, *x: expected(bb, first(bb, x[0]), *x[1:]), **shapes)
    tvm.ir.assert_structural_equal(after, wanted)


def _same(before, **shapes):
    _becomes(before, before, **shapes)


def _emit(f):
    return lambda bb, x: bb.emit(f(x))


NOTHING = {
    "reshape": lambda x: op.reshape(x, SHAPE),
    "permute_dims": lambda x: op.permute_dims(x, [0, 1, 2, 3]),
    "astype": lambda x: op.astype(x, "float32"),
    "strided_slice": lambda x: op.strided_slice(x, [2], [0], [99]),
    "broadcast_to": lambda x: op.broadcast_to(x, SHAPE),
    "squeeze": lambda x: op.squeeze(x, []),
    "expand_dims": lambda x: op.expand_dims(x, []),
    "concat": lambda x: op.concat([x], 1),
    "max_pool": lambda x: op.nn.max_pool2d(x, 1),
    "avg_pool": lambda x: op.nn.avg_pool2d(x, 1),
}


@pytest.mark.parametrize("kind", NOTHING)
def test_removes_what_changes_nothing(kind):
    _becomes(_emit(NOTHING[kind]), lambda bb, x: x)


def test_removes_dropout():
    build = lambda bb, x: bb.emit(relax.TupleGetItem(bb.emit(op.nn.dropout(x)), 0))  # noqa: E731
    _becomes(build, lambda bb, x: x)


SOMETHING = {
    "reshape": lambda x: op.reshape(x, (4, 1, 5, 6)),
    "permute_dims": lambda x: op.permute_dims(x, TO_NHWC),
    "astype": lambda x: op.astype(x, "float16"),
    "strided_slice": lambda x: op.strided_slice(x, [2], [1], [5]),
    "flip": lambda x: op.strided_slice(x, [2], [4], [-6], [-1]),
    "broadcast_to": lambda x: op.broadcast_to(x, (2, *SHAPE[1:])),
    "concat": lambda x: op.concat([x, x], 1),
    "max_pool": lambda x: op.nn.max_pool2d(x, 3, padding=1),
    "shifted_pool": lambda x: op.nn.max_pool2d(x, 1, strides=2, padding=[2, 3, 2, 3]),
    "strided_pool": lambda x: op.nn.avg_pool2d(x, 1, strides=2),
}


@pytest.mark.parametrize("kind", SOMETHING)
def test_keeps_what_changes_something(kind):
    _same(_emit(SOMETHING[kind]))


def test_removes_a_slice_and_a_reshape_of_an_open_size():
    n = tvm.tirx.Var("n", "int64")
    before = lambda bb, x: bb.emit(op.reshape(bb.emit(op.reshape(x, (n, 4))), (n, 4)))  # noqa: E731
    _becomes(before, lambda bb, x: x, x=(n, 4))


def _views(*views):
    def build(bb, x):
        for view in views:
            x = bb.emit(view(x))
        return x

    return build


def test_merges_reshapes():
    flat = lambda x: op.reshape(x, (4, 30))  # noqa: E731
    last = lambda x: op.reshape(x, (2, 60))  # noqa: E731
    _becomes(_views(flat, last), _views(last))
    _becomes(_views(flat, lambda x: op.reshape(x, SHAPE)), lambda bb, x: x)
    _becomes(
        _views(lambda x: op.expand_dims(x, [2]), lambda x: op.squeeze(x, [2])), lambda bb, x: x
    )
    _same(_views(lambda x: op.squeeze(x, [0]), last))


def test_merges_transposes():
    turn = lambda axes: lambda x: op.permute_dims(x, axes)  # noqa: E731
    _becomes(_views(turn(TO_NHWC), turn(TO_NCHW)), lambda bb, x: x)
    _becomes(_views(turn(TO_NHWC), turn(TO_NHWC)), _views(turn([0, 3, 1, 2])))
    _becomes(_views(turn(None), turn([-1, -2, -3, -4])), lambda bb, x: x)
    _becomes(_views(turn(TO_NHWC), turn(TO_NHWC), turn(TO_NHWC)), lambda bb, x: x)


def _there_and_back(between):
    def build(bb, x):
        y = between(bb, bb.emit(op.permute_dims(x, TO_NHWC)))
        return bb.emit(op.permute_dims(y, TO_NCHW))

    return build


BETWEEN = {
    "relu": (_emit(op.nn.relu), _emit(op.nn.relu)),
    "clip": (_emit(lambda x: op.clip(x, 0, 6)), _emit(lambda x: op.clip(x, 0, 6))),
    "number": (
        _emit(lambda x: op.add(x, const(2, "float32"))),
        _emit(lambda x: op.add(x, const(2, "float32"))),
    ),
    "bias": (
        _emit(lambda x: op.add(x, const(BIAS))),
        _emit(lambda x: op.add(x, const(BIAS.reshape(1, 4, 1, 1)))),
    ),
    "short_bias": (
        _emit(lambda x: op.add(const(BIAS.reshape(4)), x)),
        _emit(lambda x: op.add(const(BIAS.reshape(1, 4, 1, 1)), x)),
    ),
    "silu": (
        lambda bb, x: bb.emit(op.multiply(x, bb.emit(op.sigmoid(x)))),
        lambda bb, x: bb.emit(op.multiply(x, bb.emit(op.sigmoid(x)))),
    ),
    "a_value_read_twice": (
        lambda bb, x: bb.emit(op.multiply(y := bb.emit(op.tanh(x)), bb.emit(op.sigmoid(y)))),
        lambda bb, x: bb.emit(op.multiply(y := bb.emit(op.tanh(x)), bb.emit(op.sigmoid(y)))),
    ),
}


@pytest.mark.parametrize("kind", BETWEEN)
def test_transposes_cancel_through_elementwise_operators(kind):
    between, straight = BETWEEN[kind]
    _becomes(_there_and_back(between), straight)


def test_transposes_of_both_operands_cancel():
    def before(bb, x, z):
        y = op.add(*(bb.emit(op.permute_dims(v, TO_NHWC)) for v in (x, z)))
        return bb.emit(op.permute_dims(bb.emit(op.nn.relu(bb.emit(y))), TO_NCHW))

    straight = lambda bb, x, z: bb.emit(op.nn.relu(bb.emit(op.add(x, z))))  # noqa: E731
    _becomes(before, straight, x=SHAPE, z=SHAPE)


STAY = {
    "softmax": lambda bb, x: bb.emit(op.nn.softmax(x, -1)),
    "second_reader": lambda bb, x: bb.emit(op.nn.relu(x)),
    "matmul": lambda bb, x: bb.emit(op.matmul(x, const(np.ones((4, 4), "float32")))),
}


@pytest.mark.parametrize("kind", STAY)
def test_transposes_stay_around(kind):
    def build(bb, x):
        y = STAY[kind](bb, bb.emit(op.permute_dims(x, TO_NHWC)))
        z = bb.emit(op.permute_dims(y, TO_NCHW))
        return relax.Tuple([z, y]) if kind == "second_reader" else z

    _same(build)


def test_transposes_stay_where_one_operand_has_none():
    def build(bb, x, z):
        y = bb.emit(op.add(bb.emit(op.permute_dims(x, TO_NHWC)), z))
        return bb.emit(op.permute_dims(y, TO_NCHW))

    _same(build, x=SHAPE, z=(1, 5, 6, 4))


def test_values_times_a_turned_softmax_are_a_softmax_times_turned_values():
    turn = [0, 1, 3, 2]

    def before(bb, s, v):
        scores = bb.emit(op.permute_dims(bb.emit(op.nn.softmax(s, -1)), turn))
        return bb.emit(op.matmul(v, scores))

    def after(bb, s, v):
        scores, values = bb.emit(op.nn.softmax(s, -1)), bb.emit(op.permute_dims(v, turn))
        return bb.emit(op.permute_dims(bb.emit(op.matmul(scores, values)), turn))

    _becomes(before, after, s=(1, 2, 5, 7), v=(1, 2, 3, 7))


def test_values_times_another_turn_of_a_softmax_stay():
    def build(bb, s, v):
        scores = bb.emit(op.permute_dims(bb.emit(op.nn.softmax(s, -1)), [1, 0, 3, 2]))
        return bb.emit(op.matmul(v, scores))

    _same(build, s=(2, 2, 5, 7), v=(2, 2, 3, 7))


def test_a_value_inside_with_a_second_reader_keeps_the_transposes():
    def build(bb, x):
        y = bb.emit(op.tanh(bb.emit(op.permute_dims(x, TO_NHWC))))
        z = bb.emit(op.permute_dims(bb.emit(op.nn.relu(y)), TO_NCHW))
        return relax.Tuple([z, bb.emit(op.negative(y))])

    _same(build)


def test_keeps_numbers(tmp_path):
    """A block with a bit of everything: what is left is one group."""
    net = Net(x=(2, 4, 5, 6))
    y = net.Conv("x", net.weight(8, 4, 3, 3), pads=[1, 1, 1, 1])
    y = net.Dropout(net.Identity(y), net.const(0.5), net.const(False, bool))
    y = net.Reshape(net.Flatten(y, axis=1), net.ints(2, 8, 5, 6))
    y = net.Transpose(net.Cast(y, to=1), perm=TO_NHWC)
    y = net.Relu(net.Add(y, net.weight(8)))
    y = net.Transpose(net.Slice(y, net.ints(0), net.ints(99), net.ints(3)), perm=TO_NCHW)
    y = net.AveragePool(net.MaxPool(y, kernel_shape=[1, 1]), kernel_shape=[1, 1])
    y = net.Concat(net.Expand(y, net.ints(2, 8, 5, 6)), axis=1)
    work = keeps_numbers(net.model(y), tmp_path)
    assert groups(work) == ["conv_block bias relu"] and outside_groups(work) == []


def test_the_mask_of_a_dropout_stays_a_mask(tmp_path):
    net = Net(x=(2, 4))
    y, mask = net.add("Dropout", "x", outputs=2)
    keeps_numbers(net.model(net.Relu(y), net.Cast(mask, to=1)), tmp_path)
