from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.compiling import compile_here
from tilewright.errors import ArtifactError
from tilewright.verification.library_check import check_library, comparison, golden_outputs


@pytest.fixture
def linear(tmp_path):
    """A library and its model."""
    proto = models.linear("n")
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    work = compile_here(proto, tmp_path, dims={"n": (1, 40)})
    return work.library, tmp_path / "model.onnx"


def test_a_right_library_passes(linear, here):
    proof = check_library(*linear, 3, golden=here)
    assert proof.passed and {path.name for path in here.iterdir()} == {
        *("golden_inputs.npz", "golden_outputs.npz")
    }


def test_golden_outputs_say_what_an_error_may_be(linear, here):
    (example,) = golden_outputs(*linear, 3, here)["examples"]
    assert example["kind"] == "golden" and example["verdicts"][0]["allowed"] > 0
    assert np.load(here / "golden_outputs.npz")["y"].shape == (1, 32)


def test_what_a_process_is_told_is_that_of_the_compilation(linear):
    job = comparison(*linear, 3, None)
    assert job["dims"] == {"n": [1, 40]} and job["seed"] == 3
    with pytest.raises(ArtifactError, match="the reference model is missing"):
        comparison(linear[0], "absent.onnx", 0, None)
