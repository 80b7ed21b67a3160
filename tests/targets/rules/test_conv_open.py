"""Convolutions of open spatial sizes: one library for all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.compiling import module_of, reference
from tests.examples import examples
from tests.net import Net

# Channels in and out, groups, kernel, strides, pads, dilations; two axes, or one.
CASES = {
    "pointwise": (8, 12, 1, [1, 1], [1, 1], [0] * 4, [1, 1]),
    "pointwise, strided": (16, 9, 1, [1, 1], [2, 2], [0] * 4, [1, 1]),
    "3x3": (8, 20, 1, [3, 3], [1, 1], [1] * 4, [1, 1]),
    "stem": (3, 20, 1, [3, 3], [2, 2], [1, 0, 2, 1], [1, 1]),
    "dilated": (8, 8, 1, [3, 3], [1, 1], [2] * 4, [2, 2]),
    "rows alone": (4, 6, 1, [3, 1], [2, 1], [1, 0, 1, 0], [1, 1]),
    "depthwise": (20, 20, 20, [3, 3], [1, 1], [1] * 4, [1, 1]),
    "depthwise, strided": (24, 24, 24, [5, 5], [2, 1], [2] * 4, [1, 1]),
    "depthwise, not padded": (8, 8, 8, [3, 2], [1, 2], [0] * 4, [1, 1]),
    "depthwise, dilated": (8, 8, 8, [3, 3], [1, 1], [2, 3, 2, 1], [2, 3]),
    "one axis": (8, 16, 1, [3], [2], [1, 1], [1]),
    "one axis, depthwise": (12, 12, 12, [5], [1], [2, 2], [1]),
}


def _model(name: str):
    inputs, outputs, groups, kernel, strides, pads, dilations = CASES[name]
    net = Net(x=("n", inputs, *("h", "w")[-len(kernel) :]))
    w = net.weight(outputs, inputs // groups, *kernel)
    window = {"strides": strides, "pads": pads, "dilations": dilations}
    y = net.Conv("x", w, net.weight(outputs), group=groups, **window)
    return net.model(net.Relu(y))


@pytest.mark.parametrize("name", CASES)
def test_any_sizes_with_one_library(name, tmp_path):
    model, rank = _model(name), len(CASES[name][3])
    module = module_of(model, tmp_path, threads=2, opt_level=2)  # Without Winograd.
    assert "conv_open" in {kernel["rule"] for kernel in module.manifest["kernels"]}

    @given(st.integers(1, 3), st.integers(5, 40), st.integers(5, 40))
    @example(1, 5, 5)
    @example(2, 6, 33)
    @example(3, 5, 8)
    @settings(max_examples=examples(4))
    def check(images, height, width):
        rng = np.random.default_rng(height * 41 + width)
        shape = (images, CASES[name][0], *(height, width)[-rank:])
        x = rng.standard_normal(shape, np.float32)
        wanted = reference(model, {"x": x})[0]
        np.testing.assert_allclose(module(x), wanted, atol=4e-6 * np.abs(wanted).max())

    check()


@pytest.mark.parametrize("kernel", [[2, 2], [3, 2], [2]])
def test_a_transposed_convolution_whose_windows_do_not_overlap(kernel, tmp_path):
    net = Net(x=("n", 12, *("h", "w")[-len(kernel) :]))
    w = net.weight(12, 5, *kernel)
    y = net.Relu(net.ConvTranspose("x", w, net.weight(5), strides=kernel))
    model = net.model(y)
    module = module_of(model, tmp_path, threads=2)
    assert "conv_open" in {row["rule"] for row in module.manifest["kernels"]}
    for sizes in ((1, 3, 4), (2, 7, 11), (1, 16, 33)):
        shape = (sizes[0], 12, *sizes[1:][-len(kernel) :])
        x = np.random.default_rng(0).standard_normal(shape, np.float32)
        wanted = reference(model, {"x": x})[0]
        np.testing.assert_allclose(module(x), wanted, atol=4e-6 * np.abs(wanted).max())


def test_a_mobile_block_falls_into_convolutions(tmp_path):
    """Several convolutions in one group want sizes that are known."""
    net = Net(x=(1, 8, "h", "w"))
    y = net.Relu(net.Conv("x", net.weight(16, 8, 1, 1), net.weight(16)))
    y = net.Relu(net.Conv(y, net.weight(16, 1, 3, 3), net.weight(16), group=16, pads=[1] * 4))
    gate = net.Relu(net.Conv(net.GlobalAveragePool(y), net.weight(4, 16, 1, 1), net.weight(4)))
    gate = net.Sigmoid(net.Conv(gate, net.weight(16, 4, 1, 1), net.weight(16)))
    y = net.Conv(net.Mul(y, gate), net.weight(8, 16, 1, 1), net.weight(8))
    model = net.model(net.MaxPool(net.Add(y, "x"), kernel_shape=[2, 2], strides=[2, 2]))
    module = module_of(model, tmp_path)
    rules = [kernel["rule"] for kernel in module.manifest["kernels"] if kernel["fusion"]]
    assert set(rules) == {"conv_open", "squeeze_excitation"}
    x = np.random.default_rng(0).standard_normal((1, 8, 13, 10), np.float32)
    wanted = reference(model, {"x": x})[0]
    np.testing.assert_allclose(module(x), wanted, atol=4e-6 * np.abs(wanted).max())


def test_a_line_with_gaps_under_a_wide_window(tmp_path):
    # Lines shorter than a tile of rows: TVM found a division by zero where none of them is.
    net = Net(x=(2, 8, 8, "w"))
    gaps = {"dilations": [1, 2], "pads": [0, 4, 0, 4]}
    proto = net.model(net.Conv("x", net.weight(32, 8, 1, 5), net.weight(32), **gaps))
    module = module_of(proto, tmp_path)
    for width in (1, 3, 7, 20):
        x = np.random.default_rng(0).standard_normal((2, 8, 8, width)).astype(np.float32)
        np.testing.assert_allclose(module(x), reference(proto, {"x": x})[0], rtol=1e-4, atol=1e-5)
