"""A worker that is replaced when it crashes, hangs, or has grown large."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# TVM keeps what it compiled: a worker ends after as many graphs.
_GRAPHS = 300


class Child:
    """Runs attempts in a process of its own; one that takes longer than `limit` seconds hangs."""

    def __init__(self, limit: float, options: dict[str, Any]) -> None:
        self._limit = limit
        self._options = options
        self._place = tempfile.TemporaryDirectory(prefix="tilewright-fuzz-")
        self._process: subprocess.Popen[str] | None = None
        self._answers = -1
        self._count = 0

    def attempt(self, model: bytes, seed: int) -> tuple[dict[str, Any], Path]:
        """What came of a model (worker.attempt), and the folder with its inputs if they failed."""
        folder = Path(self._place.name) / "work"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model)
        job = {
            "model": str(folder / "model.onnx"),
            "folder": str(folder),
            "cache": str(Path(self._place.name) / "cache"),
            "seed": seed,
            "options": self._options,
        }
        if self._process is None or self._count >= _GRAPHS:
            self._start()
        self._count += 1
        begin = time.monotonic()
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._died(begin), folder
        ready, _, _ = select.select([self._answers], [], [], self._limit)
        if not ready:
            self.close(keep_place=True)
            cause = f"no answer within {self._limit:.0f} s"
            return {"status": "HANG", "cause": cause, "seconds": self._limit}, folder
        line = os.read(self._answers, 1 << 16)
        return (json.loads(line) if line else self._died(begin)), folder

    def _start(self) -> None:
        self.close(keep_place=True)
        self._answers, write_end = os.pipe()
        self._log = Path(self._place.name) / "log.txt"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tools.fuzz.worker", str(write_end)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(write_end,),
                text=True,
                env={**os.environ, "TVM_BIND_THREADS": "0"},
            )
        os.close(write_end)
        self._count = 0

    def _died(self, begin: float) -> dict[str, Any]:
        code = self._process.wait()
        self.close(keep_place=True)
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines()]
        tail = " | ".join([line for line in lines if line][-3:])[-300:]
        cause = f"the process ended with {code}: {tail}"
        return {"status": "CRASH", "cause": cause, "seconds": time.monotonic() - begin}

    def close(self, *, keep_place: bool = False) -> None:
        """End the process; its folder goes too unless `keep_place`."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait()
            os.close(self._answers)
            self._process = None
        if not keep_place:
            self._place.cleanup()
