"""Shared set-up: one hypothesis profile, one copy of the libraries that many tests load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# In this process the full TVM is loaded, whose pool would pin its workers to cores.
os.environ.setdefault("TVM_BIND_THREADS", "0")

settings.register_profile(
    "tilewright",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("tilewright")


@pytest.fixture
def model_file(tmp_path: Path):
    """Writes a ModelProto to a file of its own folder and returns the path."""

    def write(proto, name: str = "model.onnx") -> Path:
        folder = tmp_path / "models"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def linear_library(tmp_path_factory) -> Path:
    """`models.linear()` compiled for this machine."""
    from tests import models
    from tests.compiling import compile_here

    return compile_here(models.linear(), tmp_path_factory.mktemp("linear")).library
