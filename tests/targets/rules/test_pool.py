from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.examples import examples
from tests.targets.rules.lowering import AVX2, launched
from tilewright.ops import Step
from tilewright.targets.rules.pool import max_launch, mean_launch
from tilewright.targets.rules.rule import Given


def _run(launch, x: np.ndarray) -> np.ndarray:
    return launched([replace(launch, inputs=(Given("x"),))], {"x": x})


@settings(max_examples=examples(8), deadline=None)
@given(channels=st.integers(1, 50), height=st.integers(1, 17), width=st.integers(1, 17))
def test_mean_over_positions(channels, height, width):
    x = np.random.default_rng(0).standard_normal((2, channels, height, width), dtype="float32")
    for shape in (x.shape, ("n", *x.shape[1:])):
        y = _run(mean_launch("mean", shape, AVX2), x.transpose(0, 2, 3, 1))
        np.testing.assert_allclose(y, x.astype("f8").mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 1, 2)])
@pytest.mark.parametrize("dilations", [(1, 1), (2, 1)])
def test_max_as_onnx_runtime_has_it(ceil, pads, dilations):
    x = np.random.default_rng(0).standard_normal((2, 11, 13, 10), dtype="float32")
    node = helper.make_node(
        "MaxPool",
        ["x"],
        ["y"],
        kernel_shape=(3, 3),
        strides=(2, 3),
        pads=pads,
        dilations=dilations,
        ceil_mode=ceil,
    )
    sides = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in (("x", x.shape), ("y", None))
    ]
    graph = helper.make_graph([node], "pool", sides[:1], sides[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, {"x": x})[0]
    step = Step("max_pool", (3, 3, 2, 3, *pads, *dilations, ceil))
    for batch in (2, "n"):
        last = max_launch("pool", 0, (batch, 13, 10, 11), step, AVX2)
        assert last.shape == (batch, *np.array(expected.shape)[[2, 3, 1]])
        y = _run(last, x.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(y.transpose(0, 3, 1, 2), expected)
