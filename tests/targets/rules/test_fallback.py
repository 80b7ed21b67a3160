from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tvm
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import helper
from tvm import te, tirx
from tvm.s_tir import Schedule

from tests import models
from tests.compiling import module_of
from tests.examples import examples
from tests.net import Net, keeps_numbers
from tilewright.targets import CATALOG, resolve
from tilewright.targets.rules.fallback import (
    MAX_ROW,
    best_columns,
    choose_tile,
    schedule,
    stretch,
)

AVX2 = resolve("x86-64-avx2")
AVX512 = resolve("x86-64-avx512")

# --- The choice of a tile -----------------------------------------------------------------


@pytest.mark.parametrize(
    "extent, lanes, columns",
    [
        (16, 8, 16),  # two full vectors
        (64, 8, 16),
        (8, 8, 8),
        (24, 8, 8),  # 12 would cost the pieces 8 + 4
        (1000, 8, 8),
        (14, 8, 14),  # pieces of 8 + 4 + 2; 7 would cost 4 + 2 + 1 for half of it
        (7, 8, 7),
        (3, 8, 3),
        (1, 8, 1),
        (2, 16, 2),
        (48, 16, 16),
        (197, 8, 197),  # a prime: one row
        (MAX_ROW + 5, 8, None),  # a prime, and too long for a row
    ],
)
def test_best_columns(extent, lanes, columns):
    assert best_columns(extent, lanes) == columns


@given(st.integers(1, 5000), st.sampled_from([4, 8, 16]))
def test_columns_divide_the_extent_and_stay_in_the_registers(extent, lanes):
    columns = best_columns(extent, lanes)
    if columns is None:
        assert extent > MAX_ROW
    else:
        assert extent % columns == 0
        assert columns <= 2 * lanes or columns == extent <= MAX_ROW


@given(st.integers(1, 5000), st.sampled_from([4, 8, 16]))
def test_a_stretch_is_whole_vectors_and_divides_the_row(extent, lanes):
    found = stretch(extent, lanes)
    if found is not None:
        assert extent % found == 0 and found % lanes == 0 and found <= 256
        assert (stretch(found, lanes), found >= 2 * lanes) == (found, True)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMean"])
@pytest.mark.parametrize("shape", [(2, 37, 512), (1, 70, 7, 264), (3, 40, 131)])
def test_reductions_over_what_is_not_side_by_side(op, shape, tmp_path):
    net = Net(x=shape)
    keeps_numbers(net.model(getattr(net, op)("x", axes=[1], keepdims=0)), tmp_path)


def _matmul(m: int, k: int, n: int) -> tirx.PrimFunc:
    a, b = te.placeholder((m, k), "float32", "a"), te.placeholder((k, n), "float32", "b")
    axis = te.reduce_axis((0, k), "k")
    c = te.compute((m, n), lambda i, j: te.sum(a[i, axis] * b[axis, j], axis), "c")
    return te.create_prim_func([a, b, c])


def _tile(function: tirx.PrimFunc, target):
    sch = Schedule(function)
    return choose_tile(sch, sch.get_sblock("c"), target)


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
@pytest.mark.parametrize(
    "shape", [(64, 64, 64), (6, 32, 48), (1, 64, 64), (97, 31, 14), (6, 8, 37)]
)
def test_accumulators_fit_the_registers_of_each_target(row, shape):
    tile = _tile(_matmul(*shape), row)
    lanes = row.vector_bits // 32
    vectors = -(-tile.columns // lanes)
    fits = tile.rows * vectors + vectors + 1 <= row.vector_registers
    assert tile.vectorize and (fits or tile.rows == 1)
    assert shape[0] % tile.rows == 0 and shape[2] % tile.columns == 0


def test_a_wider_vector_makes_a_wider_tile():
    assert _tile(_matmul(64, 64, 64), AVX2).columns == 16
    assert _tile(_matmul(64, 64, 64), AVX512).columns == 32


def test_one_row_is_not_tiled_by_rows():
    tile = _tile(_matmul(1, 64, 64), AVX2)
    assert (tile.row, tile.rows, tile.columns) == (None, 1, 16)


def test_a_single_result_has_nothing_to_tile():
    assert _tile(_matmul(1, 64, 1), AVX2) is None


def test_scheduling_keeps_the_attributes_and_is_repeatable():
    function = _matmul(12, 8, 16).with_attr("global_symbol", "kernel")
    first, kind = schedule(function, AVX2)
    second, _ = schedule(function, AVX2)
    assert kind == "tiled" and first.attrs["global_symbol"] == "kernel"
    tvm.ir.assert_structural_equal(first, second)


def test_little_work_stays_on_one_thread():
    def elementwise(size: int) -> str:
        x = te.placeholder((size // 64, 64), "float32", "x")
        y = te.compute(x.shape, lambda i, j: te.exp(x[i, j]), "y")
        return schedule(te.create_prim_func([x, y]), AVX2)[0].script()

    assert "T.parallel" not in elementwise(1024)
    assert "T.parallel" in elementwise(1 << 20)


# --- The numbers --------------------------------------------------------------------------

# Odd and prime sizes are where tiles do not fit.
SIZES = st.sampled_from([1, 2, 3, 5, 7, 8, 11, 13, 14, 16, 17, 24, 31, 32, 37, 48])
EXAMPLES = settings(max_examples=examples(10))


def _answer(proto, *arrays, target="native") -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="test-fallback-") as folder:
        return module_of(proto, Path(folder), threads=2, target=target)(*arrays)


def _floats(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _near(ours: np.ndarray, exact: np.ndarray, terms: int) -> None:
    """Within the rounding of `terms` float32 additions, of the size of the result."""
    assert ours.shape == exact.shape
    bound = 8 * 2.0**-24 * np.sqrt(max(terms, 1)) * max(1.0, np.abs(exact).max(initial=0))
    assert np.abs(ours - exact).max(initial=0) <= bound


@EXAMPLES
@given(SIZES, SIZES, SIZES, st.booleans())
@example(1, 1, 1, False)
@example(1, 197, 1, True)
@example(97, 3, 197, True)
@example(257, 64, 263, False)
def test_matmul_is_exact_within_rounding(m, k, n, epilogue):
    a, b, bias = _floats(1, m, k), _floats(2, k, n), _floats(3, n)
    nodes = [helper.make_node("MatMul", ["a", "b"], ["c" if epilogue else "y"])]
    exact = a.astype(np.float64) @ b
    inputs = [models.value("a", (m, k)), models.value("b", (k, n))]
    given = [a, b]
    if epilogue:
        nodes += [
            helper.make_node("Add", ["c", "bias"], ["d"]),
            helper.make_node("Relu", ["d"], ["y"]),
        ]
        inputs.append(models.value("bias", (n,)))
        given.append(bias)
        exact = np.maximum(exact + bias, 0)
    proto = models.model(nodes, inputs, [models.value("y", (m, n))])
    _near(_answer(proto, *given), exact, k)


def _conv(x: np.ndarray, w: np.ndarray, stride: int, pad: int, groups: int) -> np.ndarray:
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    outputs, inputs = w.shape[0] // groups, w.shape[1]
    parts = [
        np.einsum(
            "nchwij,ocij->nohw",
            windows[:, g * inputs : (g + 1) * inputs],
            w[g * outputs : (g + 1) * outputs],
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, axis=1)


@EXAMPLES
@given(
    inputs=st.sampled_from([1, 2, 3, 5, 8]),
    outputs=st.sampled_from([1, 3, 7, 8, 16]),
    groups=st.sampled_from([1, 1, 2, 3]),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.sampled_from([1, 2, 3]),
    pad=st.sampled_from([0, 1, 2]),
    size=st.sampled_from([5, 7, 11, 14, 17]),
)
@example(inputs=1, outputs=1, groups=7, kernel=3, stride=1, pad=1, size=14)
@example(inputs=3, outputs=5, groups=1, kernel=1, stride=1, pad=0, size=1)
def test_conv_is_exact_within_rounding(inputs, outputs, groups, kernel, stride, pad, size):
    kernel = min(kernel, size + 2 * pad)
    x = _floats(1, 1, inputs * groups, size, size + 2)
    w = _floats(2, outputs * groups, inputs, kernel, kernel)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], strides=[stride] * 2, pads=[pad] * 4, group=groups
    )
    proto = models.model([node], [models.value("x", x.shape)], [models.value("y", None)], {"w": w})
    _near(_answer(proto, x), _conv(x, w, stride, pad, groups), inputs * kernel * kernel)


REDUCTIONS = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceL2": lambda x, axis, keepdims: np.sqrt((x * x).sum(axis=axis, keepdims=keepdims)),
}


@EXAMPLES
@given(
    op=st.sampled_from(sorted(REDUCTIONS)),
    shape=st.lists(SIZES, min_size=1, max_size=3),
    keep=st.booleans(),
    data=st.data(),
)
def test_reductions_are_exact_within_rounding(op, shape, keep, data):
    axes = sorted(
        data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape)))
    )
    x = _floats(4, *shape)
    if op == "ReduceSum":
        nodes = [helper.make_node(op, ["x", "axes"], ["y"], keepdims=int(keep))]
        weights = {"axes": np.array(axes)}
    else:
        nodes = [helper.make_node(op, ["x"], ["y"], axes=axes, keepdims=int(keep))]
        weights = {}
    proto = models.model(nodes, [models.value("x", shape)], [models.value("y", None)], weights)
    exact = REDUCTIONS[op](x.astype(np.float64), axis=tuple(axes), keepdims=keep)
    _near(_answer(proto, x), exact, int(np.prod([shape[axis] for axis in axes])))


@EXAMPLES
@given(
    op=st.sampled_from(["Softmax", "LogSoftmax"]),
    rows=SIZES,
    columns=SIZES,
    axis=st.sampled_from([0, 1, -1]),
)
@example(op="Softmax", rows=1, columns=1009, axis=1)
def test_softmax_is_exact_within_rounding(op, rows, columns, axis):
    x = 4 * _floats(5, rows, columns)
    wide = x.astype(np.float64) - x.max(axis, keepdims=True)
    log = wide - np.log(np.exp(wide).sum(axis, keepdims=True))
    exact = np.exp(log) if op == "Softmax" else log
    _near(_answer(models.unary(op, x.shape, axis=axis), x), exact, rows if axis == 0 else columns)


@pytest.mark.parametrize("name", ["x86-64", "x86-64-avx", "x86-64-avx2"])
def test_narrower_targets_give_the_same_numbers(name):
    a, b = _floats(1, 13, 37), _floats(2, 37, 48)
    proto = models.model(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        [models.value("a", a.shape), models.value("b", b.shape)],
        [models.value("y", (13, 48))],
    )
    _near(_answer(proto, a, b, target=name), a.astype(np.float64) @ b, 37)


@pytest.mark.parametrize("rows", [1, 2, 5, 16, 37])
def test_an_open_dimension_gives_the_same_numbers(rows, tmp_path_factory):
    module = _OPEN.get("module")
    if module is None:
        proto = models.mlp_block("n", 32)
        _OPEN["module"] = module = module_of(proto, tmp_path_factory.mktemp("open"), threads=2)
        _OPEN["proto"] = proto
    from tests.compiling import reference

    x = _floats(rows, 1, rows, 32)
    np.testing.assert_allclose(module(x), reference(_OPEN["proto"], {"x": x})[0], atol=2e-5)


_OPEN: dict = {}


def test_operators_that_read_their_operand_twice_do_not_multiply(tmp_path):
    """Written into each other, 24 squares would be 2^24 factors."""
    net = Net(x=(2, 3))
    y = "x"
    for _ in range(24):
        y = net.Sub(net.Mul(y, y), 0.7)
    keeps_numbers(net.model(y), tmp_path)


def test_open_sizes_that_are_multiples_of_each_other(tmp_path):
    # TVM cannot tell the indices of 5 * w + 15 elements apart from those of w + 3.
    net = Net(x=("n", 4, 8, "w"))
    edges = net.Pad("x", net.ints(0, 1, 2, 1, 0, 0, 2, 2), mode="edge")
    proto = net.model(net.Transpose(net.Mul(edges, 2.0), perm=[2, 3, 1, 0]))
    keeps_numbers(proto, tmp_path)
