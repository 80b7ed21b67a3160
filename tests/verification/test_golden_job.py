from __future__ import annotations

import numpy as np
import pytest

import tilewright
from tests import models
from tests.compiling import reference
from tests.net import Net
from tilewright.errors import ModelError
from tilewright.options import CompileOptions


def test_golden_outputs_are_onnx_runtimes(tmp_path):
    proto = models.linear("n")
    options = CompileOptions(standalone="model")
    artifact = tilewright.compile(proto, "rpi4", options=options)
    assert artifact.check is None and "aarch64" in artifact.unchecked
    inputs = dict(np.load(artifact.golden / "golden_inputs.npz"))
    outputs = dict(np.load(artifact.golden / "golden_outputs.npz"))
    np.testing.assert_allclose(outputs["y"], reference(proto, inputs)[0], rtol=1e-5, atol=1e-6)
    (example,) = artifact.expected["examples"]
    assert example["dims"] == {"n": 1} and example["kind"] == "golden"
    assert 0 < example["verdicts"][0]["allowed"] < 1e-3


def test_a_model_that_takes_no_input_at_all_is_refused():
    net = Net(x=("n", 3))
    proto = net.model(net.Gather("x", net.ints(10_000), axis=0))
    with pytest.raises(ModelError, match="refuses every input"):
        tilewright.compile(proto, "rpi4", options=CompileOptions(standalone="model"))
