"""Export models, each in a process of its own.

A fresh process gives every model the same random draws whatever was exported before it, gives
the memory back, and keeps one failure from ending the others.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Sequence

from tools.zoo.catalog import MODELS, Model, find
from tools.zoo.errors import CheckFailed, ZooError
from tools.zoo.places import REPOSITORY, Zoo

TAIL_LINES = 8
MADE_BUT_WRONG = 3  # of the child; its 1 is Python's own, after any uncaught exception


def export(names: Sequence[str], zoo: Zoo) -> int:
    """Export the named models, or all; the exit status of the worst failure, 0 without one."""
    models = _select(names)
    if importlib.util.find_spec("torch") is None:
        raise ZooError(
            f"{sys.executable} has no torch, which every export needs",
            hint="tools/README.md says how to make the environment",
        )
    return max(_export_in_child(model, zoo) for model in models)


def _select(names: Sequence[str]) -> list[Model]:
    if not names:
        return [model for model in MODELS if model.recipes]
    models = [find(name) for name in names]
    for model in models:
        if not model.recipes:
            raise ZooError(
                f"{model.name}: comes ready-made in {model.source}, nothing to export",
                hint="run `python -m tools.zoo fetch`",
            )
    return models


def _export_in_child(model: Model, zoo: Zoo) -> int:
    start = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "tools.zoo.export_one", model.name, str(zoo.root)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode == 0:
        line = run.stdout.splitlines()[-1]  # exporters print above it
        print(f"{model.name:36} {line}  {time.monotonic() - start:3.0f} s", flush=True)
        return 0
    tail = "\n".join((run.stderr or run.stdout).strip().splitlines()[-TAIL_LINES:])
    print(f"{model.name}: {_how_it_ended(run.returncode)}\n{tail}", file=sys.stderr)
    return (CheckFailed if run.returncode == MADE_BUT_WRONG else ZooError).exit_code


def _how_it_ended(status: int) -> str:
    if status < 0:  # most often SIGKILL, for want of memory
        return f"export was ended by signal {-status}"
    return "exported, but wrong" if status == MADE_BUT_WRONG else "export failed"
