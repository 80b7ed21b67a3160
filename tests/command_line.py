"""The command line in this process or, with `spawn`, in one of its own."""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tilewright.cli import cli, flags
from tilewright.compiler import child
from tilewright.errors import TilewrightError

ROOT = Path(__file__).resolve().parents[1]


def run_job_here(
    function: str, job: dict[str, Any], on_event: Any = None, *, doing: str = "compiling"
) -> Any:
    """`child.call` without the child: the same job, in this process."""
    module, _, name = function.partition(":")

    def emit(kind: str, **fields: Any) -> None:
        if on_event is not None:
            on_event({"event": kind, **fields})

    try:
        result = getattr(importlib.import_module(module), name)(json.loads(json.dumps(job)), emit)
    except OSError as error:
        raise child._from_os(error) from error
    return json.loads(json.dumps(result))


def command(*words: Any) -> int:
    """Exit code of `tilewright WORDS`; errors are raised."""
    code = cli.main(flags.settle_json([str(word) for word in words]), standalone_mode=False)
    return code if isinstance(code, int) else 0


def refused(kind: type[TilewrightError], *words: Any, says: tuple[str, ...] | list[str]) -> str:
    """Assert that `tilewright WORDS` is refused with `kind` and a text that has all of `says`."""
    with pytest.raises(TilewrightError) as info:
        command(*words)
    error, text = info.value, str(info.value)
    assert type(error) is kind, text
    assert error.exit_code == 2
    for part in says:
        assert part in text, f"{part!r} is not in:\n{text}"
    # The traceback holds the frames that hold temporary folders.
    del error, info
    gc.collect()
    return text


def spawn(*words: Any, cwd: Path, **settings: Any) -> subprocess.CompletedProcess:
    """Run `python -m`-less `tilewright WORDS` as a user would; text in and out."""
    code = "from tilewright.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **settings,
    )
