"""Shared set-up: one hypothesis profile, one copy of the libraries that many tests load."""

from __future__ import annotations

import os
import tempfile
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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and an empty temporary folder; jobs run in this process."""
    from tests.command_line import run_job_here
    from tilewright.compiler import child

    place, temporary = tmp_path / "here", tmp_path / "temporary"
    place.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(child, "call", run_job_here)
    return place


@pytest.fixture
def nothing_left(here: Path, tmp_path: Path):
    """Asserts at the end that neither the current nor the temporary folder gained a file."""
    yield here
    # onnxruntime drops a file of its own there when it is imported.
    left = [*here.rglob("*"), *(tmp_path / "temporary").glob("tilewright-*")]
    assert left == []


def pytest_configure(config: pytest.Config) -> None:
    """Kernel cache and tuning records of one run: its processes share them, no other sees them."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="tilewright-tests-")
        config.add_cleanup(folder.cleanup)
        os.environ["XDG_CACHE_HOME"] = folder.name
        os.environ["XDG_DATA_HOME"] = folder.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What TVM has first, the whole way second: the cause is then read before its effects."""
    first = {"test_tvm_surface.py": 0, "test_tiny.py": 1}
    items.sort(key=lambda item: first.get(item.path.name, 2))
