from __future__ import annotations

import numpy as np
import pytest
import tvm_ffi
from onnx import helper, numpy_helper
from tvm import relax, tirx

from tests.compiling import module_of
from tests.net import Net, keeps_numbers
from tilewright.compiler.importer.convert.known_values import values_of
from tilewright.errors import InputError

N = tirx.Var("n", "int64")


def _values(build):
    """What is known of what `build` makes of the shape [n, 3, 8] as numbers."""
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((N, 3, 8), "float32"))
    data = relax.Var("data", relax.TensorType((2,), "int64"))
    with bb.function("main", [x, data]):
        shape = bb.emit(relax.op.shape_to_tensor(bb.emit(relax.op.shape_of(x))))
        found = values_of(bb, bb.emit(build(bb, shape, data)))
        bb.emit_func_output(shape)
    return found


def _int(*values, dtype="int64"):
    return relax.const(np.array(values, dtype), dtype)


OPERATIONS = {
    "astype": (lambda bb, s, d: relax.op.astype(s, "int32"), [N, 3, 8]),
    "slice": (lambda bb, s, d: relax.op.strided_slice(s, [0], [0], [2]), [N, 3]),
    "take": (lambda bb, s, d: relax.op.take(s, _int(2, 0), 0), [8, N]),
    "concat": (lambda bb, s, d: relax.op.concat([s, _int(-1)], 0), [N, 3, 8, -1]),
    "multiply": (lambda bb, s, d: relax.op.multiply(s, _int(2)), [N * 2, 6, 16]),
    "divide": (lambda bb, s, d: relax.op.floor_divide(s, _int(3, 3, 3)), [N // 3, 1, 2]),
    "size": (lambda bb, s, d: relax.op.size(s), [3]),
    "equal": (lambda bb, s, d: relax.op.equal(relax.op.size(s), relax.const(3, "int64")), [1]),
    "cast to truth": (lambda bb, s, d: relax.op.astype(_sliced(bb, s), "bool"), [1, 1]),
    "not": (lambda bb, s, d: relax.op.logical_not(_truths(bb, s)), [0, 0]),
    "where": (lambda bb, s, d: relax.op.where(_truths(bb, s), _int(4), _int(5)), [4, 4]),
    "data": (lambda bb, s, d: relax.op.add(d, _int(1)), None),
    "data among others": (lambda bb, s, d: relax.op.concat([s, d], 0), None),
    "a gather by data": (lambda bb, s, d: relax.op.take(s, d, 0), None),
    "floats": (lambda bb, s, d: relax.op.astype(s, "float32"), None),
}


def _sliced(bb, shape):
    return bb.emit(relax.op.strided_slice(shape, [0], [1], [3]))


def _truths(bb, shape):
    return bb.emit(relax.op.astype(_sliced(bb, shape), "bool"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_values(name):
    build, expected = OPERATIONS[name]
    found = _values(build)
    if expected is None:
        assert found is None
        return
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected, strict=True):
        if isinstance(wanted, int):
            assert int(value) == wanted
        else:
            assert tvm_ffi.structural_equal(value, wanted)


def test_a_shape_computed_in_int32_stays_a_shape(tmp_path):
    net = Net(x=("n", "t", 12))
    shape = net.Cast(net.Shape("x"), to=6)
    sizes = net.Slice(shape, net.ints(0), net.ints(2), net.ints(0))
    wanted = net.Concat(net.Cast(sizes, to=7), net.ints(3, 4), axis=0)
    work = keeps_numbers(net.model(net.Relu(net.Reshape("x", wanted))), tmp_path)
    assert work.kernels == ["reshape", "relu"]


def _branch(op, *given, **tensors):
    out = helper.make_empty_tensor_value_info(op)
    inside = [numpy_helper.from_array(np.int64(value), name) for name, value in tensors.items()]
    return helper.make_graph([helper.make_node(op, given, [op])], op, [], [out], inside)


def test_an_axis_that_sizes_say_is_one_is_squeezed(tmp_path):
    """As PyTorch writes x.squeeze(2)."""
    net = Net(opset=17, x=("n", 4, 9))
    y = net.Conv("x", net.weight(4, 4, 9))
    is_one = net.Equal(net.Gather(net.Shape(y), net.ints(2)), net.ints(1))
    squeezed = _branch("Squeeze", y, "axes", axes=[2])
    chosen = net.If(is_one, then_branch=squeezed, else_branch=_branch("Identity", y))
    proto = net.model(y)
    chosen = helper.make_node("Relu", [chosen], ["z"])
    proto.graph.node.append(chosen)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", 1, ["n", 4]))
    keeps_numbers(proto, tmp_path)


def test_an_open_axis_is_squeezed_and_checked(tmp_path):
    net = Net(x=("n", 3))
    module = module_of(net.model(net.Squeeze("x", net.ints(0))), tmp_path)
    x = np.ones((1, 3), np.float32)
    assert module(x).shape == (3,)
    with pytest.raises(InputError):
        module(np.ones((2, 3), np.float32))
