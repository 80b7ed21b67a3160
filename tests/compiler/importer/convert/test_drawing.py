from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.compiling import compile_here, module_of
from tests.net import Net
from tilewright.compiler import runtime
from tilewright.compiler.importer.convert.drawing import key_of_seed

COUNT = 40_000
ONE = np.float32(1)
KINDS = {"float16": "FLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}


def _philox(counter: int, key: int) -> tuple[int, int]:
    """Philox-2x32-10, written after the paper."""
    left, right = counter & 0xFFFFFFFF, counter >> 32
    for _ in range(10):
        product = 0xD256D193 * left
        left, right = (product >> 32) ^ key ^ right, product & 0xFFFFFFFF
        key = (key + 0x9E3779B9) & 0xFFFFFFFF
    return left, right


def test_the_generator_of_these_tests_is_philox():
    """Vectors of Random123, the library of Philox's authors."""
    assert _philox(0, 0) == (0xFF1DAE59, 0x6CD10DF2)
    assert _philox(0x85A308D3_243F6A88, 0x13198A2E) == (0xDD7CE038, 0xF62A4C12)


def _drawn(net, *outputs, tmp_path, runs=1, **given):
    module = module_of(net.model(*outputs), tmp_path)
    found = [module(given) for _ in range(runs)]
    return found[0] if runs == 1 else found


def test_a_seed_gives_the_numbers_of_the_generator(tmp_path):
    net = Net(opset=14, x=(3,))
    y = net.RandomUniform(shape=[5, 7], seed=2.0, low=-1.0, high=3.0)
    _, found = _drawn(net, net.Relu("x"), y, tmp_path=tmp_path, x=np.zeros(3, np.float32))
    key, start = key_of_seed(int(np.float32(2.0).view(np.uint32)))
    bits = [_philox(n ^ start, key >> 32)[0] >> 8 for n in range(35)]
    np.testing.assert_allclose(found.ravel(), np.array(bits) * 2.0**-24 * 4 - 1, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normal_numbers_are_normal(dtype, tmp_path):
    net = Net(opset=14, x=("n", 4))
    kind = getattr(TensorProto, KINDS[dtype])
    y = net.RandomNormalLike("x", dtype=kind, mean=2.0, scale=3.0)
    found = _drawn(net, y, tmp_path=tmp_path, x=np.zeros((COUNT // 4, 4), np.float32))
    assert str(found.dtype) == dtype and found.shape == (COUNT // 4, 4)
    found = (np.sort(found.ravel().astype(np.float64)) - 2) / 3
    expected = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in found])
    # Kolmogorov and Smirnov: larger once in ten thousand times.
    assert np.abs(expected - (np.arange(COUNT) + 0.5) / COUNT).max() < 2.23 / math.sqrt(COUNT)


def test_without_a_seed_every_node_and_every_run_draws_anew(tmp_path):
    net = Net(opset=14, x=(COUNT,))
    nodes = [net.RandomNormalLike("x"), net.RandomNormalLike("x")]
    runs = _drawn(net, *nodes, tmp_path=tmp_path, runs=2, x=np.zeros(COUNT, np.float32))
    drawn = [array for run in runs for array in run]
    for n, one in enumerate(drawn):
        for other in drawn[:n]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(COUNT)


def test_with_a_seed_every_run_draws_the_same(tmp_path):
    net = Net(opset=14, x=(100,))
    y = net.RandomNormalLike("x", seed=1.5)
    one, other = _drawn(net, y, tmp_path=tmp_path, runs=2, x=np.zeros(100, np.float32))
    np.testing.assert_array_equal(one, other)
    assert len(np.unique(one)) > 95


def test_one_number_without_axes(tmp_path):
    net = Net(opset=14, x=())
    drawn = _drawn(net, net.RandomUniformLike("x", low=5.0, high=6.0), tmp_path=tmp_path, x=ONE)
    assert drawn.shape == () and 5 <= drawn <= 6


def test_bernoulli_has_the_probabilities_of_its_input(tmp_path):
    net = Net(opset=15, x=(3, COUNT))
    chances = np.float32([[0.0], [0.3], [1.0]])
    found = _drawn(
        net,
        net.Bernoulli("x", dtype=TensorProto.INT32),
        tmp_path=tmp_path,
        x=np.broadcast_to(chances, (3, COUNT)).copy(),
    )
    assert found.dtype == np.int32 and set(np.unique(found)) == {0, 1}
    np.testing.assert_allclose(found.mean(1), chances[:, 0], atol=4 * 0.46 / math.sqrt(COUNT))
    assert not found[0].any() and found[2].all()


@pytest.mark.parametrize("classes", [1, 4])
def test_multinomial_draws_classes_by_their_share(classes, tmp_path):
    net = Net(opset=14, x=(2, classes))
    shares = np.float32([[0.1, 0.2, 0.3, 0.4], [0.25, 0.5, 0.25, 0.0]])[:, :classes]
    with np.errstate(divide="ignore"):
        logarithms = np.log(shares) + 5
    y = net.Multinomial("x", sample_size=COUNT, dtype=TensorProto.INT64)
    found = _drawn(net, y, tmp_path=tmp_path, x=logarithms)
    assert found.shape == (2, COUNT) and found.dtype == np.int64
    counts = np.stack([np.bincount(row, minlength=classes) for row in found]) / COUNT
    shares = shares / shares.sum(1, keepdims=True)
    np.testing.assert_allclose(counts, shares, atol=4 * 0.5 / math.sqrt(COUNT))


@pytest.mark.parametrize("op, more", [("RandomUniform", {"high": 2.0}), ("RandomNormal", {})])
def test_numbers_do_not_depend_on_threads(op, more, tmp_path):
    """Large enough for parallel loops, of three axes and of one."""
    net = Net(opset=14, x=(3,))
    drawn = [net.add(op, shape=s, seed=7.0, **more) for s in ([9, 70, 80], [50400])]
    work = compile_here(net.model(net.Relu("x"), *drawn), tmp_path)
    x = np.zeros(3, np.float32)
    one, two = (runtime.load(work.library, threads)(x)[1:] for threads in (1, 2))
    for found, other in zip(one, two, strict=True):
        np.testing.assert_array_equal(found, other)
        np.testing.assert_array_equal(found.ravel(), one[1][: found.size])


def test_two_nodes_of_one_name_draw_different_numbers(tmp_path):
    nodes = [helper.make_node("RandomNormalLike", ["x"], [y], name="noise") for y in "yz"]
    values = [models.value(name, (50,)) for name in "xyz"]
    y, z = module_of(models.model(nodes, values[:1], values[1:]), tmp_path)(np.ones(50, np.float32))
    assert abs(y - z).min() > 0


def test_a_dropout_that_drops_nothing(tmp_path):
    x = np.float32([[1, -2, 0], [3, 4, np.nan]])
    net = Net(opset=13, x=(2, 3))
    results = [
        *net.add("Dropout", "x", outputs=2),
        *net.add("Dropout", "x", 0.0, net.const(True, bool), outputs=2),
    ]
    y, mask, z, other = module_of(net.model(*results), tmp_path)(x)
    np.testing.assert_array_equal(np.stack([y, z]), np.stack([x, x]))
    assert mask.dtype == other.dtype == bool and mask.all() and other.all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dropout_in_training_mode(dtype, tmp_path):
    net = Net(opset=13)
    net.input("x", (COUNT,), getattr(TensorProto, KINDS[dtype]))
    results = [
        *net.add("Dropout", "x", 0.25, net.const(True, bool), outputs=2),
        # The ratio is 0.5.
        *net.add("Dropout", "x", "", net.const(True, bool), outputs=2),
    ]
    x = np.random.default_rng(0).uniform(1, 2, COUNT).astype(dtype)
    x[:9] = np.nan
    y, mask, z, other = module_of(net.model(*results), tmp_path)(x)
    for found, kept, ratio in ((y, mask, 0.25), (z, other, 0.5)):
        assert found.dtype == dtype and kept.dtype == bool
        assert abs(kept.mean() - (1 - ratio)) < 4 * 0.5 / math.sqrt(COUNT)
        expected = x.astype(np.float64) * kept / (1 - ratio)
        np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(dtype).eps)
    assert abs(np.corrcoef(mask, other)[0, 1]) < 4 / math.sqrt(COUNT)


def test_ratio_and_mode_of_a_dropout_that_are_known_when_it_runs(tmp_path):
    net = Net(opset=13, x=("n", 5))
    net.input("ratio", (1,), TensorProto.DOUBLE)
    net.input("training", (), TensorProto.BOOL)
    y, mask = net.add("Dropout", "x", net.Reshape("ratio", net.ints()), "training", outputs=2)
    module = module_of(net.model(y, mask), tmp_path)
    given = {"x": np.ones((COUNT // 5, 5), np.float32), "training": np.array(True)}
    for ratio in (0.0, 0.1, 0.9):
        y, mask = module({**given, "ratio": np.array([ratio])})
        assert abs(mask.mean() - (1 - ratio)) < 4 * 0.3 / math.sqrt(COUNT) * (ratio > 0) + 1e-9
        np.testing.assert_allclose(y, mask / (1 - ratio), rtol=1e-6)
    y, mask = module({**given, "ratio": np.array([0.9]), "training": np.array(False)})
    assert (y == 1).all() and mask.all()


def test_a_seed_of_a_dropout(tmp_path):
    net = Net(opset=13, x=(100,))
    y = net.Dropout("x", 0.5, net.const(True, bool), seed=3)
    one, other = _drawn(net, y, tmp_path=tmp_path, runs=2, x=np.ones(100, np.float32))
    np.testing.assert_array_equal(one, other)
    assert 20 < np.count_nonzero(one) < 80
