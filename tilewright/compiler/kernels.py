"""Kernels to object files: out of the cache, or compiled by as many processes as may run.

An object knows its kernel by a name made of the kernel's key, `k_KEY`, so that models whose
kernels have other names share it; the linker adds the names that the model's bytecode calls.
"""

from __future__ import annotations

import functools
import hashlib
import os
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tvm
from tvm import tirx

from tilewright import targets
from tilewright.compiler.child import how_it_ended
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.compiler.lower import GROUP, RULE
from tilewright.targets import host
from tilewright.targets.rules.registers import PIPELINE

# Says whose work a kernel is, and changes nothing in its code.
_NAMES = ("global_symbol", GROUP, RULE)
# What TVM puts before the name of a kernel.
_PREFIX = "__tvm_ffi_"
# Each holds LLVM and a kernel: on a server with many cores memory would be the limit.
_MOST_PROCESSES = 16


@dataclass(frozen=True)
class Objects:
    """Object files; the name of each symbol that the model calls, and what it is in them."""

    files: tuple[Path, ...]
    symbols: Mapping[str, str]
    # Names of the kernels that came from the cache.
    cached: frozenset[str]


def kernels_of(mod: tvm.IRModule) -> dict[str, tirx.PrimFunc]:
    """The kernels of a module, by name."""
    functions = mod.functions_items()
    return {v.name_hint: f for v, f in functions if isinstance(f, tirx.PrimFunc)}


def without_kernels(mod: tvm.IRModule) -> tvm.IRModule:
    """A module without its kernels, which it calls by name."""
    functions = mod.functions_items()
    rest = {v: f for v, f in functions if not isinstance(f, tirx.PrimFunc)}
    return tvm.IRModule(rest, mod.attrs)


def compile_kernels(
    kernels: Mapping[str, tirx.PrimFunc],
    target: tvm.target.Target,
    folder: Path,
    cache: KernelCache | None,
    processes: int | None = None,
) -> Objects:
    """Objects in `folder` for `kernels`; what `cache` has not is compiled, and kept there.

    `processes` at most do so, by default as many as may run; with one it is this one.
    """
    keys = {name: kernel_key(function, target) for name, function in kernels.items()}
    files = {key: folder / f"{key}.o" for key in keys.values()}
    known = {key: content for key in files if (content := cache and cache.read(key))}
    for key, content in known.items():
        files[key].write_bytes(content)
    missing = {key: name for name, key in keys.items() if key not in known}
    if missing:
        _Processes(kernels, missing, target, folder, cache).run(processes)
        if cache:
            cache.trim()
    symbols = {f"{_PREFIX}{name}": _PREFIX + _symbol(key) for name, key in keys.items()}
    cached = frozenset(name for name, key in keys.items() if key in known)
    return Objects(tuple(files.values()), symbols, cached)


def kernel_key(function: tirx.PrimFunc, target: tvm.target.Target) -> str:
    """A key that changes with whatever the object of a kernel depends on.

    That is its code, as TVM saves it with every attribute but names; the target with CPU and
    features; the versions of Tilewright, TVM and LLVM; and the sources of the passes that a kernel
    goes through after this, so that a change to one is seen without a new version.
    """
    for name in _NAMES:
        function = function.without_attr(name)
    parts = (tvm.ir.save_json(function), str(target), *_compiler())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@functools.cache
def _compiler() -> tuple[str, ...]:
    versions = [f"{name} {version(name)}" for name in ("tilewright", "apache-tvm")]
    llvm = f"LLVM {tvm.target.codegen.llvm_version_major()}"
    return (*versions, llvm, source_digest(Path(targets.__file__).parent))


def source_digest(folder: Path) -> str:
    """A digest of this module and of all below `folder`."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *sorted(folder.rglob("*.py"))):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def built(function: tirx.PrimFunc, name: str, target: tvm.target.Target) -> tvm.runtime.Module:
    """A kernel compiled under `name`."""
    module = tvm.IRModule({name: function.with_attr("global_symbol", name)})
    return tirx.build(module, target, pipeline=PIPELINE)


def _symbol(key: str) -> str:
    return f"k_{key[:32]}"


class _Processes:
    """Copies of this process, each of which takes kernels that no other has taken.

    By `fork`, so that the kernels need not be sent and nothing is imported again. The threads that
    this process may have do not follow, and none holds what compiling a kernel needs.
    """

    def __init__(
        self,
        kernels: Mapping[str, tirx.PrimFunc],
        missing: Mapping[str, str],
        target: tvm.target.Target,
        folder: Path,
        cache: KernelCache | None,
    ) -> None:
        self._kernels, self._missing = kernels, missing
        self._target, self._folder, self._cache = target, folder, cache

    def run(self, processes: int | None) -> None:
        """Compile the missing kernels; RuntimeError names the one that fails."""
        if processes == 1:
            self._work()
            return
        count = min(len(self._missing), processes or host.default_threads(), _MOST_PROCESSES)
        ends = [os.waitpid(child, 0) for child in [self._start() for _ in range(count)]]
        for child, status in ends:
            if code := os.waitstatus_to_exitcode(status):
                raise RuntimeError(self._blame(child, code))

    def _start(self) -> int:
        with warnings.catch_warnings():
            # Python 3.12 warns of any fork beside threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                self._work()
                os._exit(0)
            finally:
                os._exit(1)
        return child

    def _work(self) -> None:
        for key, name in self._missing.items():
            claim = self._claim(key)
            try:
                claim.touch(exist_ok=False)
            except FileExistsError:
                continue
            claim.write_text(f"{os.getpid()}\n")
            try:
                self._compile(key, self._kernels[name])
            except Exception:
                claim.write_text(f"{os.getpid()}\n{traceback.format_exc()}")
                raise
            claim.write_text("done")

    def _compile(self, key: str, function: tirx.PrimFunc) -> None:
        path = self._folder / f"{key}.o"
        built(function, _symbol(key), self._target).write_to_file(str(path), "o")
        if self._cache:
            self._cache.write(key, path.read_bytes())

    def _claim(self, key: str) -> Path:
        return self._folder / f"{key}.claim"

    def _blame(self, child: int, code: int) -> str:
        """What happened in the process `child`, and to which kernel; the last line says it all."""
        for key, name in self._missing.items():
            claim = self._claim(key)
            taken_by, _, trace = claim.read_text().partition("\n") if claim.exists() else ("",) * 3
            if taken_by == str(child):
                return f"{trace}kernel {name}: {(trace.splitlines() or [how_it_ended(code)])[-1]}"
        return f"a process that compiles kernels ended: {how_it_ended(code)}"
