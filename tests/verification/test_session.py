from __future__ import annotations

import subprocess
import sys

import pytest

from tests import models
from tests.command_line import ROOT
from tilewright.errors import ModelError
from tilewright.verification.session import open_session

FRESH = """
import sys
import tilewright.verification.session
print([name for name in ("tvm", "onnx", "onnxruntime") if name in sys.modules])
"""


def test_a_model_that_onnx_runtime_refuses_is_a_model_error(model_file):
    with pytest.raises(ModelError, match="the reference, refuses") as info:
        open_session(str(model_file(models.unsupported())), 1)
    assert "--no-verify" in info.value.hint


def test_importing_it_weighs_nothing():
    """Or `bench` would count TVM's import as ONNX Runtime's load and memory."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["[]"]
