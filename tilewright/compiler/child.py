"""Run a function in a child process, so that nothing TVM does can take the user's down.

The child gets a job (JSON) on its standard input and answers with events, one JSON object a
line, on a pipe of its own; whatever it or a library prints goes to a log. A crash, an abort
or a kill comes back as one CompileError that names the step and keeps the log. The child
ends itself when its parent disappears.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from tilewright.errors import CompileError, OutputError, TilewrightError

Emit = Callable[..., None]
OnEvent = Callable[[dict[str, Any]], None]

_BOOT = (
    "import json, sys; first = json.loads(sys.stdin.readline()); "
    "sys.path[:] = first['path']; "
    "from tilewright.compiler.child import serve; serve(first)"
)


_REPORT_US = "a fault of ours or of TVM, not of your model: please report it with the log"
_WAY_ROUND = "; -O1 or --disable may get around it"


def call(
    function: str, job: dict[str, Any], on_event: OnEvent | None = None, *, doing: str = "compiling"
) -> Any:
    """Call `function` ("package.module:name") as `function(job, emit)` in a child process.

    Returns its result, which must be JSON. `emit(kind, **fields)` there becomes
    `on_event({"event": kind, ...})` here. Raises the TilewrightError the child raised, or
    CompileError when it died.
    """
    log = tempfile.NamedTemporaryFile(  # noqa: SIM115 - outlives this function when kept
        "w+", prefix="tilewright-", suffix=".log", delete=False, errors="replace"
    )
    read_end, write_end = os.pipe()
    first = {"path": sys.path, "function": function, "job": job, "pipe": write_end}
    child = subprocess.Popen(
        [sys.executable, "-c", _BOOT],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=(write_end,),
        start_new_session=True,
        text=True,
    )
    os.close(write_end)
    keep_log = False
    try:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(first) + "\n")
            child.stdin.flush()
        step, outcome = _listen(read_end, on_event)
        code = child.wait()
        if outcome is None:
            keep_log = True
            raise _died(doing, step, code, Path(log.name))
        if "error" in outcome:
            raise TilewrightError.from_dict(outcome["error"])
        if "traceback" in outcome:
            keep_log = True
            raise _raised(doing, step, outcome["traceback"], Path(log.name))
        return outcome["result"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.stdin.close()
        child.wait()
        log.close()
        if not keep_log:
            os.unlink(log.name)


def _listen(read_end: int, on_event: OnEvent | None) -> tuple[str, dict[str, Any] | None]:
    """Hand on events until the child closes its pipe; the last step, and how it ended."""
    step, outcome = "start", None
    with os.fdopen(read_end, "r") as events:
        for line in events:
            event = json.loads(line)
            if event["event"] == "outcome":
                outcome = event
                break
            if event["event"] == "start":
                step = event["step"]
            if on_event is not None:
                on_event(event)
    return step, outcome


def _died(doing: str, step: str, code: int, log: Path) -> CompileError:
    return CompileError(
        f"{doing} crashed in step {step!r} ({how_it_ended(code)})",
        where=f"log kept at {log}; it ends with: {_tail(log)}",
        hint=_REPORT_US + (_WAY_ROUND if doing == "compiling" else ""),
    )


def how_it_ended(code: int) -> str:
    """The end of a process in words; `code` is negative for a signal."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, {'probably out of memory' if name == 'SIGKILL' else 'inside native code'}"


def _raised(doing: str, step: str, trace: str, log: Path) -> CompileError:
    with log.open("a") as file:
        file.write(trace)
    return CompileError(
        f"{doing} failed in step {step!r}: {trace.strip().splitlines()[-1][:300]}",
        where=f"log kept at {log}",
        hint=_REPORT_US + (_WAY_ROUND if doing == "compiling" else ""),
    )


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-300:] or "(nothing)"


def serve(first: dict[str, Any]) -> None:
    """The child's side of `call`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with os.fdopen(first["pipe"], "w", buffering=1) as pipe:
        module, _, name = first["function"].partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
            result = function(first["job"], lambda kind, **f: _send(pipe, {"event": kind, **f}))
            outcome = {"event": "outcome", "result": result}
        except TilewrightError as error:
            outcome = {"event": "outcome", "error": error.to_dict()}
        except OSError as error:
            outcome = {"event": "outcome", "error": _from_os(error).to_dict()}
        except MemoryError:
            traceback.print_exc()
            os.kill(os.getpid(), signal.SIGKILL)
        except Exception:
            outcome = {"event": "outcome", "traceback": traceback.format_exc()}
        _send(pipe, outcome)
    # TVM's destructors at interpreter exit are not worth a late crash.
    os._exit(0)


def _send(pipe: TextIO, event: dict[str, Any]) -> None:
    pipe.write(json.dumps(event) + "\n")
    pipe.flush()


def _from_os(error: OSError) -> OutputError:
    return OutputError(
        f"the system refused: {error.strerror or error}",
        where=str(error.filename or "a temporary file"),
        hint="check the disk's free space and the folder's permissions; TMPDIR moves "
        "temporary files",
    )


def _end_with_parent() -> None:
    sys.stdin.read()
    os.killpg(os.getpgid(0), signal.SIGKILL)
