from __future__ import annotations

import shutil

import pytest

from tests.autotune.conftest import conditions, tasks  # noqa: F401 - fixtures
from tilewright.autotune.build import start
from tilewright.autotune.tasks import inputs_of
from tilewright.devices.device import DEFAULT
from tilewright.devices.program import save_arguments
from tilewright.targets.rules.catalogue import Choice


@pytest.fixture(scope="session")
def built(tasks, conditions, tmp_path_factory):  # noqa: F811
    """A task's folder, with its default and one choice like it, called `same`."""
    folder = tmp_path_factory.mktemp("built") / "task"
    folder.mkdir()
    save_arguments(folder, inputs_of(tasks[0], 0))
    rule = start(tasks[0], None, conditions, folder / DEFAULT).answer(60)["rule"]
    start(tasks[0], Choice(rule, {}), conditions, folder / "same").answer(60)
    return folder


@pytest.fixture
def task(built, tmp_path):
    """A copy of the folder, to be spoiled."""
    return shutil.copytree(built, tmp_path / "task")
