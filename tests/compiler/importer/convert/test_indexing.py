from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.compiling import compile_here, module_of
from tests.net import Net, answers_each, fused, keeps_numbers
from tests.passes.graphs import calls
from tilewright.errors import ModelError

KINDS = {"int32": models.onnx.TensorProto.INT32, "int64": models.INT64}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", KINDS)
def test_negative_indices_count_from_the_end(dtype, axis, tmp_path):
    net = Net()
    net.input("ids", (2, 3), KINDS[dtype])
    size = (5, 4, 6)[axis]
    given = {"ids": np.array([[0, -1, size - 1], [1, -size, 2]], dtype)}
    y = net.Gather(net.weight(5, 4, 6), "ids", axis=axis)
    keeps_numbers(net.model(y), tmp_path, given=given)


@pytest.mark.parametrize("index", [0, 3, -1, [2, -2], [[0], [-4]]], ids=str)
def test_constant_indices_are_wrapped_at_compile_time(index, tmp_path):
    net = Net(x=(2, 4, 3))
    proto = net.model(net.Gather("x", net.const(index, np.int64), axis=1))
    assert calls(fused(proto, tmp_path, disable=("embedding",)).mod) == ["relax.take"]
    keeps_numbers(proto, tmp_path)


def test_one_operator_per_look_up_needs_no_shape_at_run_time(tmp_path):
    net = Net()
    net.input("ids", (1, "n"))
    work = fused(net.model(net.Gather(net.weight(7, 8), "ids")), tmp_path, disable=("embedding",))
    assert calls(work.mod) == ["relax.less", "relax.add", "relax.where", "relax.take"]


def test_an_open_axis_is_left_to_tvm(tmp_path):
    net = Net(x=("n", 4))
    y = net.Gather("x", net.const([0, 1], np.int64), axis=0)
    keeps_numbers(net.model(y), tmp_path, dims={"n": (2, 6)})


def test_a_constant_of_a_constant_is_folded(tmp_path):
    net = Net(x=(3,))
    y = net.Add("x", net.Gather(net.weight(5, 3), net.const(2, np.int64)))
    keeps_numbers(net.model(y), tmp_path)


def test_sizes_of_an_open_shape(tmp_path):
    net = Net(x=("n", 4))
    size = net.Unsqueeze(net.Gather(net.Shape("x"), net.const(0, np.int64)), net.ints(0))
    y = net.Reshape("x", net.Concat(size, net.ints(2, 2), axis=0))
    keeps_numbers(net.model(y), tmp_path)


@pytest.mark.parametrize("cast", [False, True])
def test_a_range_up_to_a_size_is_as_long_as_that_size(cast, tmp_path):
    """As exporters write positions; what is as long can then be added to it."""
    net = Net(x=("n", 4))
    size = net.Gather(net.Shape("x"), net.const(0, np.int64), axis=0)
    size = net.Cast(size, to=models.INT64) if cast else size
    positions = net.Range(net.const(0, np.int64), size, net.const(1, np.int64))
    column = net.Unsqueeze(net.Cast(positions, to=models.FLOAT), net.ints(1))
    work = keeps_numbers(net.model(net.Add("x", column)), tmp_path)
    assert "range_len" not in str(work.mod)


@pytest.mark.parametrize(("start", "step"), [(0, 3), (1, 1), (2, 2)])
def test_other_ranges(start, step, tmp_path):
    net = Net(x=(11, 4))
    net.input("limit", (), models.INT64)
    limits = np.int64(start), "limit", np.int64(step)
    y = net.Range(*[v if isinstance(v, str) else net.const(v, np.int64) for v in limits])
    total = net.ReduceSum(y, keepdims=0)
    keeps_numbers(net.model(total), tmp_path, given={"limit": np.array(8)})
    net = Net(x=("n", 4))
    size = net.Gather(net.Shape("x"), net.const(0, np.int64), axis=0)
    y = net.Range(net.const(start, np.int64), size, net.const(step, np.int64))
    keeps_numbers(net.model(net.ReduceSum(y, keepdims=0)), tmp_path)


def _computed(net: Net, **kinds: tuple) -> Net:
    for name, shape in kinds.items():
        net.input(name, shape)
    return net


def test_parts_whose_sizes_are_computed(tmp_path):
    net = _computed(Net(opset=18, x=(2, 6)), sizes=(3,))
    proto = net.model(*net.add("Split", "x", "sizes", axis=-1, outputs=3))
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    each = ([1, 2, 3], [2, 2, 2], [5, 0, 1])
    answers_each(proto, tmp_path, *({"x": x, "sizes": np.array(sizes)} for sizes in each))


@pytest.mark.parametrize(
    "start, end, step", [(1, 2, -(1 << 63)), (3, 0, 1 - (1 << 63)), (0, 9, 1 << 62)]
)
def test_steps_beyond_any_size(start, end, step, tmp_path):
    net = Net(x=(5, 2))
    y = net.Slice("x", *(net.ints(n) for n in (start, end, 0, step)))
    made = net.model(net.Concat("x", y, axis=0))
    answers_each(made, tmp_path, {"x": np.arange(10, dtype=np.float32).reshape(5, 2)})


@pytest.mark.parametrize(
    "start, end, step",
    [
        *[(0, 2**63 - 1, 2), (-3, 2**31 - 1, 1), (2, 2**31, 1), (0, -1, 1), (1, 5, 2)],
        *[(-1, -(2**31), -1), (2**40, -(2**40), -3), (3, -(2**31), -1), (-2, -(2**63), -1)],
    ],
)
def test_slices_of_open_sizes(start, end, step, tmp_path):
    """Of which a kernel makes something: no memory is planned for 2^31 rows."""
    net = Net(opset=20, x=(2, "n", 3))
    y = net.Slice("x", *(net.ints(n) for n in (start, end, 1, step)))
    made = net.model(net.Relu(net.Transpose(y, perm=[1, 0, 2])))
    x = np.arange(60, dtype=np.float32).reshape(2, 10, 3)
    answers_each(made, tmp_path, {"x": x}, {"x": x[:, :4]}, {"x": x[:, :1]})
    plan = compile_here(made, tmp_path, until="plan").mod.script()
    assert "34359738352" not in plan


@pytest.mark.parametrize("start, end, step", [(-1, 2**31, 1), (-3, -1, 2), (1, 2**63 - 1, 2)])
def test_slices_of_sizes_that_are_computed(start, end, step, tmp_path):
    net = Net(opset=20, x=(2, 5, "s"))
    pooled = net.MaxPool("x", kernel_shape=[1], strides=[2])
    ints = (net.ints(number) for number in (start, end, 2, step))
    proto = net.model(net.Slice(pooled, *ints))
    each = (np.arange(10 * s, dtype=np.float32).reshape(2, 5, s) for s in (9, 8, 1))
    answers_each(proto, tmp_path, *({"x": x} for x in each))


def test_parts_some_of_which_are_empty(tmp_path):
    net = Net(x=(2, 6))
    proto = net.model(*net.add("Split", "x", net.ints(0, 4, 0, 2), axis=1, outputs=4))
    answers_each(proto, tmp_path, {"x": np.arange(12, dtype=np.float32).reshape(2, 6)})


def test_parts_that_do_not_fit_are_refused(tmp_path):
    """As many sizes are kept outside the graph, where onnx does not see them."""
    node = models.onnx.helper.make_node("Split", ["x", "sizes"], ["y"], name="cut")
    sizes = {"sizes": np.zeros(1000, np.int64)}
    proto = models.model([node], [models.value("x", (2, 3))], [models.value("y", ("n", 3))], sizes)
    with pytest.raises(ModelError, match="sizes of the parts do not fit: 1000, 0 in all") as info:
        compile_here(proto, tmp_path, until="import")
    assert info.value.where == "node cut (Split)" and info.value.expected.startswith("1,")


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("depth", [4, None])
def test_one_of_many(axis, depth, tmp_path):
    net = _computed(Net(opset=18), ids=(2, 3))
    name = net.const(depth, np.int64) if depth else net.input("depth", ())
    proto = net.model(net.OneHot("ids", name, net.const([2, 5]), axis=axis))
    given = {"ids": np.array([[0, -1, 3], [1, 2, -4]])}
    each = [{**given, **({} if depth else {"depth": np.array(d)})} for d in (4, 6)]
    answers_each(proto, tmp_path, *each)


@pytest.mark.parametrize("kind", [models.INT64, models.FLOAT])
def test_numbers_up_to_a_limit_that_is_computed(kind, tmp_path):
    net = Net(opset=18)
    for name in ("start", "limit", "delta"):
        net.input(name, (), kind)
    proto = net.model(net.Range("start", "limit", "delta"))
    dtype = models.onnx.helper.tensor_dtype_to_np_dtype(kind)
    each = [(0, 5, 1), (2, 9, 3), (9, 2, -3), (3, 3, 1), (5, 1, 2)]
    names = ("start", "limit", "delta")
    given = (dict(zip(names, np.array(numbers, dtype), strict=True)) for numbers in each)
    answers_each(proto, tmp_path, *given)


@pytest.mark.parametrize("offset", [0, 1, -2])
def test_a_diagonal_of_ones(offset, tmp_path):
    net = Net(opset=18)
    net.input("x", (3, 4), KINDS["int32"])
    proto = net.model(net.EyeLike("x", k=offset, dtype=models.FLOAT))
    answers_each(proto, tmp_path, {"x": np.zeros((3, 4), np.int32)})


@pytest.mark.parametrize("batch, time", [(1, 0), (0, 1)])
def test_sequences_of_their_own_length_are_turned(batch, time, tmp_path):
    net = _computed(Net(opset=18, x=(4, 4, 2)), lengths=(4,))
    proto = net.model(net.ReverseSequence("x", "lengths", batch_axis=batch, time_axis=time))
    x = np.arange(32, dtype=np.float32).reshape(4, 4, 2)
    answers_each(proto, tmp_path, {"x": x, "lengths": np.array([1, 4, 2, 3])})


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, -2])
def test_new_steps_in_a_cache(mode, axis, tmp_path):
    """ONNX Runtime has no TensorScatter."""
    net = Net(opset=24, cache=(2, 5, 5, 3))
    shape = (2, 2, 5, 3) if axis == 1 else (2, 5, 2, 3)
    net.input("update", shape, models.FLOAT)
    net.input("starts", (2,))
    proto = net.model(net.TensorScatter("cache", "update", "starts", axis=axis, mode=mode))
    random = np.random.default_rng(8)
    cache, update = (random.standard_normal(s).astype(np.float32) for s in ((2, 5, 5, 3), shape))
    starts = np.array([4 if mode == "circular" else 3, 1])
    expected = cache.copy()
    for batch, start in enumerate(starts):
        for step in range(2):
            at = (start + step) % 5
            if axis == 1:
                expected[batch, at] = update[batch, step]
            else:
                expected[batch, :, at] = update[batch, :, step]
    np.testing.assert_array_equal(module_of(proto, tmp_path)(cache, update, starts), expected)


def test_a_range_of_floats_up_to_a_size(tmp_path):
    """The centres of a grid's cells, as detectors have them: as many as the input has."""
    net = Net(x=(1, 2, "h", "w"))
    size = net.Gather(net.Shape("x"), net.const(3, np.int64))
    centres = net.Add(net.Range(0.0, net.Cast(size, to=1), 1.0), 0.5)
    keeps_numbers(net.model(net.Mul("x", centres)), tmp_path)
