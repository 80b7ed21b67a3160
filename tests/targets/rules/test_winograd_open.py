"""Winograd convolutions of open spatial sizes: one library for all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.compiling import module_of, reference
from tests.examples import examples
from tests.net import Net

# Channels in and out, pads, and whether something is added: tiles of 4x4, then of 2x2.
CASES = {
    "4x4": (32, 48, [1] * 4, True),
    "4x4, uneven": (61, 43, [0, 1, 2, 0], False),
    "2x2": (200, 70, [1] * 4, False),
}


@pytest.mark.parametrize("name", CASES)
def test_any_sizes_with_one_library(name, tmp_path):
    inputs, outputs, pads, adds = CASES[name]
    shapes = {"x": ("n", inputs, "h", "w"), "r": ("n", outputs, "h", "w")}
    net = Net(**(shapes if adds else {"x": shapes["x"]}))
    y = net.Conv("x", net.weight(outputs, inputs, 3, 3), net.weight(outputs), pads=pads)
    model = net.model(net.Relu(net.Add(y, "r") if adds else y))
    module = module_of(model, tmp_path, threads=2, opt_level=3)
    rules = {kernel["name"]: kernel["rule"] for kernel in module.manifest["kernels"]}
    assert "winograd" in rules.values()

    @given(st.integers(1, 3), st.integers(3, 40), st.integers(3, 40))
    @example(1, 3, 3)
    @example(2, 9, 33)
    @example(1, 4, 64)
    @settings(max_examples=examples(4))
    def check(images, height, width):
        rng = np.random.default_rng(height * 41 + width)
        given = {
            value.name: rng.standard_normal((images, channels, height, width), np.float32)
            for value, channels in zip(model.graph.input, (inputs, outputs), strict=False)
        }
        wanted = reference(model, given)[0]
        # Five times the error of a plain sum, as test_winograd.py has it.
        np.testing.assert_allclose(
            module(*given.values()), wanted, atol=2e-5 * np.abs(wanted).max()
        )

    check()
