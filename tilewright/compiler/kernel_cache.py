"""Object files of compiled kernels, kept in the user's cache folder for the next compilation.

A file per object, named by the key of its kernel (`compiler/kernels.py`): a SHA-256 of the
object, then the object. A file is written under another name and renamed, so that any number of
processes may use one folder. A cache is a convenience: what is damaged counts as absent, and a
folder that cannot be written keeps nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import platformdirs

LIMIT_BYTES = 1 << 30
_DIGEST_BYTES = hashlib.sha256().digest_size


def default_folder() -> Path:
    """$XDG_CACHE_HOME/tilewright/kernels, by default below ~/.cache."""
    return platformdirs.user_cache_path("tilewright") / "kernels"


class KernelCache:
    """The objects in `folder`, at most `limit_bytes` of them."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes

    def read(self, key: str) -> bytes | None:
        """The object kept under `key`; None where there is none, or not all of it."""
        path = self._folder / key
        try:
            data = path.read_bytes()
        except OSError:
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        with contextlib.suppress(OSError):
            # The time of the last use, which `trim` goes by: many file systems keep none.
            os.utime(path)
        return content

    def write(self, key: str, content: bytes) -> None:
        """Keep `content` under `key`, if the folder can be written."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                try:
                    file.write(hashlib.sha256(content).digest() + content)
                    file.flush()
                    os.replace(file.name, self._folder / key)
                except OSError:
                    os.unlink(file.name)
                    raise

    def trim(self) -> None:
        """Remove what was used longest ago until the rest is within the limit."""
        with contextlib.suppress(OSError):
            found = [(entry.stat(), entry.path) for entry in os.scandir(self._folder)]
            excess = sum(facts.st_size for facts, _path in found) - self._limit_bytes
            for facts, path in sorted(found, key=lambda pair: pair[0].st_mtime_ns):
                if excess <= 0:
                    break
                os.unlink(path)
                excess -= facts.st_size
