from __future__ import annotations

import pytest

from tests import models
from tests.compiling import compile_here
from tilewright.autotune.build import Conditions
from tilewright.autotune.tasks import tasks_of
from tilewright.compiler import pool
from tilewright.compiler.kernel_cache import KernelCache, default_folder
from tilewright.targets import resolve


@pytest.fixture(scope="session")
def conditions(tmp_path_factory):
    """Those of a session on this machine."""
    folder = tmp_path_factory.mktemp("conditions")
    cache = KernelCache(default_folder())
    return Conditions(resolve("native"), pool.write_object(folder), cache, folder)


@pytest.fixture(scope="session")
def tasks(tmp_path_factory):
    """The tasks of a small convolutional network."""
    proto = models.conv_net(size=16, channels=64)
    work = compile_here(proto, tmp_path_factory.mktemp("tasks"), until="fuse")
    return tasks_of(work)[0]
