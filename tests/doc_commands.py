"""Runs the blocks of a page of docs/, as tests/test_docs.py hands them over.

Fast is without the child processes of `tilewright`, and with its commands in copies (`fork`) of a
process that has imported everything: that is most of the time that they take on a small model.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
import traceback
from typing import Any

SHELL = set("|><&;$`*()\\")
_shared: dict[str, Any] = {"__name__": "__main__"}


def run(language: str, place: str, text: str, fast: bool) -> None:
    """Run one block; raises when it fails."""
    if language == "python":
        if fast:
            _without_children()
        exec(compile(text, place, "exec"), _shared)
        return
    commands = _commands(text) if fast else None
    if commands is None:
        subprocess.run(["bash", "-euxo", "pipefail", "-c", text], check=True)
        return
    _import_all()
    for words in commands:
        print("+", shlex.join(words), flush=True)
        _copy(words)


def _commands(text: str) -> list[list[str]] | None:
    """The words of each line, where all are `tilewright` commands and need no shell."""
    lines = [line.split("  #")[0] for line in text.splitlines()]
    if any(SHELL & set(line) for line in lines):
        return None
    commands = [words for line in lines if (words := shlex.split(line, comments=True))]
    return commands if all(words[0] == "tilewright" for words in commands) else None


@functools.cache
def _import_all() -> None:
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    import onnxruntime  # noqa: F401

    import tilewright.compiler.compile_job
    import tilewright.verification.proof_job  # noqa: F401


def _without_children() -> None:
    """What would be done in a child process is done here."""
    from tests.command_line import run_job_here
    from tilewright.compiler import child

    _import_all()
    child.call = run_job_here


def _copy(words: list[str]) -> None:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code: Any = 1
        try:
            from tilewright import api, cli

            _without_children()
            api.bench.__kwdefaults__["seconds"] = 0.1
            sys.argv = words
            cli.main()
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{shlex.join(words)}: exit code {code}")
