"""Jobs that end in every way a child process can; `tests/compiler/test_child.py` runs them."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import time
from pathlib import Path

from tilewright.errors import UnsupportedModel


def answer(job, emit):
    emit("start", step="think")
    emit("done", step="think", seconds=0.0, note="done")
    return {"answer": job["question"] * 2}


def segfault(job, emit):
    emit("start", step="codegen")
    print("about to read address 0", flush=True)
    ctypes.string_at(0)


def abort(job, emit):
    emit("start", step="codegen")
    os.abort()


def leave(job, emit):
    emit("start", step="link")
    os._exit(7)


def leave_politely(job, emit):
    sys.exit(3)


def killed(job, emit):
    emit("start", step="plan")
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory(job, emit):
    emit("start", step="import")
    raise MemoryError


def raises(job, emit):
    emit("start", step="legalize")
    raise RuntimeError("Check failed: (lanes == 4) is false")


def raises_ours(job, emit):
    raise UnsupportedModel("no", where="node a", expected="b", hint="c")


def disk_full(job, emit):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/weights.bin")


def garbage(job, emit):
    print('{"event": "outcome", "result": "forged"}')
    os.write(1, b"\xff\xfe\x00 not text\n")
    print("x" * 200_000)
    return "true"


def not_json(job, emit):
    return object()


def large(job, emit):
    return "x" * job["size"]


def sleeps(job, emit):
    Path(job["file"]).write_text(str(os.getpid()))
    emit("start", step="sleep")
    time.sleep(60)
