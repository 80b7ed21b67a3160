"""The whole way, once, on the smallest model worth the name: compile, save, load, run."""

from __future__ import annotations

import numpy as np

import tilewright
from tests import models
from tests.compiling import reference


def test_compiles_checks_saves_loads_and_runs(model_file, tmp_path):
    proto = models.linear()
    steps = []
    artifact = tilewright.compile(
        model_file(proto), progress=lambda event: steps.append((event["event"], event["step"]))
    )
    assert artifact.check["passed"] and artifact.unchecked is None
    assert ("done", "link") in steps and ("done", "verify") in steps

    path = artifact.save(tmp_path / "linear.so")
    module = tilewright.load(path, threads=2)
    assert [str(spec) for spec in module.inputs] == ["x: float32[2, 64]"]
    assert [str(spec) for spec in module.outputs] == ["y: float32[2, 32]"]

    x = np.random.default_rng(7).standard_normal((2, 64)).astype(np.float32)
    np.testing.assert_allclose(module(x), reference(proto, {"x": x})[0], rtol=1e-5, atol=1e-6)
    assert tilewright.verify(path, model=model_file(proto)).passed
