"""The threads of compiled models: `pool.c` goes into every library, and a process has one pool.

A library alone runs its parallel loops on workers of its own. Loaded here, all libraries share
the workers of the first, so that many models do not mean many threads.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from pathlib import Path

from tilewright.compiler.c_objects import compile_c
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.targets.toolchain import HOST, Toolchain

SOURCE = Path(__file__).with_name("pool.c")
# What pool.c exports: docs/artifact.md.
LAUNCH = "tilewright_launch"
SET_THREADS = "tilewright_set_threads"
SHARE = "tilewright_share_workers"

SetThreads = Callable[[int], None]

_lock = threading.Lock()
# The library whose workers all others use. Libraries are never unmapped in Python.
_owner: ctypes.CDLL | None = None


def write_object(folder: Path, tools: Toolchain = HOST, cache: KernelCache | None = None) -> Path:
    """The pool as an object file in `folder`."""
    return compile_c(SOURCE, folder / "pool.o", tools, cache)


def join(handle: ctypes.CDLL) -> SetThreads:
    """Let the library run on this process's workers, before its first call.

    Returns the function that says how many threads the calling thread's next calls use, itself
    included. Raises AttributeError when the library has no pool.
    """
    global _owner
    with _lock:
        share = getattr(handle, SHARE)
        if _owner is None:
            _owner = handle
        elif _owner._handle != handle._handle:
            share(getattr(_owner, LAUNCH))
    # Keeps the interpreter's lock: giving it away for a store would take longer than the store.
    return ctypes.PYFUNCTYPE(None, ctypes.c_int)((SET_THREADS, _owner))
