"""Load an artifact and run it: numpy in, numpy out.

Needs TVM's runtime library and tvm-ffi; never the compiler, onnx or onnxruntime. Everything
that may not fit (file, machine, CPU features, versions) is checked before the library is
mapped, so that a wrong file is a sentence and not an illegal instruction.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler import pool, sections
from tilewright.compiler.small_types import STORED, restored, stored
from tilewright.errors import ArtifactError, InputError, OptionError
from tilewright.targets import host

_CPU = 1  # kDLCPU
_POOLED_ALLOCATOR = 2
# Kernels are compiled for parameters that start on this boundary (TVM's kAllocAlignment).
_ALIGNMENT = 64
# What TVM's VM says when sizes that must be the same are not.
_MISMATCH = "match_cast error"


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: name, numpy dtype name, and sizes or names of dimensions."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None

    def __str__(self) -> str:
        sizes = "?" if self.shape is None else ", ".join(str(size) for size in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"


class Module:
    """A loaded model. Call it with arrays; it is safe to call from several threads.

    `threads` is the number of threads each call uses, the calling one and workers that all
    modules share. Results own their memory.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], threads: int) -> None:
        self.path = path
        self.manifest = manifest
        self.threads = threads
        self.inputs = tuple(_spec(row) for row in manifest["inputs"])
        self.outputs = tuple(_spec(row) for row in manifest["outputs"])
        self._names = [spec.name for spec in self.inputs]
        self._library = _open(path)
        # The weights lie in the library; every other tensor of a run lies elsewhere.
        self._weights, self.weight_addresses = _weight_tensors(
            path, self._library.handle, manifest["weights"]
        )
        self._small = any(spec.dtype in STORED for spec in self.outputs)
        # What a model returns unchanged is not its own to give.
        self._lent = not all(row["owned"] for row in manifest["outputs"])
        # Popped and appended to, each of which is one step for all threads.
        self._idle = [self._new_machine()]

    def __call__(self, *arrays: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run once: `module(x)`, `module(x, y)` or `module({"x": x, "y": y})`.

        Takes numpy arrays and anything with DLPack; copies only what is not contiguous or
        not on a 64-byte boundary. Returns an array, or a tuple in output order. Raises
        InputError when a name, dtype or shape does not fit.
        """
        given = self._by_position(arrays)
        read = [_array(spec, array) for spec, array in zip(self.inputs, given, strict=True)]
        self._check_shapes(read)
        self._library.set_threads(self.threads)
        try:
            machine = self._idle.pop()
        except IndexError:
            machine = self._new_machine()
        try:
            read = [machine.in_place(number, array) for number, array in enumerate(read)]
            try:
                result = machine.run(*read, *self._weights)
            except Exception as error:
                if _MISMATCH not in str(error):
                    raise
                raise _sizes_refused(self.inputs, read, error) from error
            outputs = [result] if len(self.outputs) == 1 else result
            results = [np.from_dlpack(tensor) for tensor in outputs]
            if self._lent:
                borrowed = [self.weight_addresses, *map(_memory, read)]
                results = [_own(array, borrowed) for array in results]
        finally:
            self._idle.append(machine)
        if self._small:
            results = [restored(y, o.dtype) for y, o in zip(results, self.outputs, strict=True)]
        return results[0] if len(results) == 1 else tuple(results)

    def check(self, *arrays: Any) -> None:
        """Raise the InputError that a call with `arrays` would, for their names, types, shapes."""
        given = self._by_position(arrays)
        self._check_shapes([_array(s, a) for s, a in zip(self.inputs, given, strict=True)])

    def watch(self, before_and_after: Callable[..., None]) -> None:
        """Call `before_and_after(function, name, is_before, result, *arguments)` around kernels.

        Also around what the VM itself calls, whose names start with `vm.`. For measurements: every
        call costs a microsecond or two more from here on. Calls that overlap are not all watched.
        """
        import tvm_ffi

        self._idle[-1].vm["set_instrument"](tvm_ffi.convert(before_and_after))

    def __repr__(self) -> str:
        sides = [", ".join(map(str, side)) for side in (self.inputs, self.outputs)]
        return f"<tilewright.Module {self.manifest['name']}: ({sides[0]}) -> ({sides[1]})>"

    def _new_machine(self) -> _Machine:
        vm = self._library.module["vm_load_executable"]()
        vm["vm_initialization"](_CPU, 0, _POOLED_ALLOCATOR)
        return _Machine(vm, len(self.inputs))

    def _by_position(self, arrays: tuple[Any, ...]) -> list[Any]:
        names = self._names
        if len(arrays) == 1 and (type(arrays[0]) is dict or isinstance(arrays[0], Mapping)):
            given = arrays[0]
            if len(given) == len(names) and all(name in given for name in names):
                return [given[name] for name in names]
            missing = [name for name in names if name not in given]
            unknown = [name for name in given if name not in names]
            what = f"missing: {', '.join(missing)}" if missing else ""
            what += f"{'; ' if what and unknown else ''}"
            what += f"unknown: {', '.join(map(str, unknown))}" if unknown else ""
            raise InputError(f"inputs {what}", expected=f"{', '.join(map(str, self.inputs))}")
        if len(arrays) != len(names):
            raise InputError(
                f"{len(arrays)} inputs given", expected=f"{', '.join(map(str, self.inputs))}"
            )
        return list(arrays)

    def _check_shapes(self, arrays: list[np.ndarray]) -> None:
        sizes: dict[str, int] = {}
        bounds = self.manifest["dims"]
        for spec, array in zip(self.inputs, arrays, strict=True):
            shape = array.shape
            if shape == spec.shape:
                continue
            fits = len(shape) == len(spec.shape)
            for size, wanted in zip(shape, spec.shape, strict=False):
                if isinstance(wanted, str):
                    low, high = bounds[wanted]
                    fits = fits and low <= size <= high and sizes.setdefault(wanted, size) == size
                else:
                    fits = fits and size == wanted
            if not fits:
                known = ", ".join(f"{k}={v}" for k, v in sizes.items() if k in spec.shape)
                limits = ", ".join(
                    f"{k} in {bounds[k][0]}..{bounds[k][1]}" for k in spec.shape if k in bounds
                )
                raise InputError(
                    f"input {spec.name!r} has shape {list(shape)}",
                    expected=f"{list(spec.shape)}"
                    + (f" with {limits}" if limits else "")
                    + (f"; here {known}" if known else ""),
                    hint=None if limits else _other_sizes(self.manifest),
                )


class _Machine:
    """A VM of a library, for one call at a time, and room for what it cannot read in place.

    The room is kept: the system takes longer to give fresh memory than copying an image takes.
    """

    def __init__(self, vm: Any, inputs: int) -> None:
        self.vm = vm
        self.run = vm["main"]
        self._rooms = [np.empty(0, np.uint8)] * inputs

    def in_place(self, number: int, array: np.ndarray) -> np.ndarray:
        """Input `number` itself when kernels can read it there, else an aligned copy."""
        if not array.size:
            return _empty_like(array)
        flags = array.flags
        # A buffer's address is had in a quarter of the time that `array.ctypes.data` takes.
        if (
            flags.c_contiguous
            and flags.writeable
            and ctypes.addressof(ctypes.c_char.from_buffer(array)) % _ALIGNMENT == 0
        ):
            return array
        room = self._rooms[number]
        if room.shape != array.shape or room.dtype != array.dtype:
            room = self._rooms[number] = _aligned(array.shape, array.dtype)
        room[...] = array
        return room


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array where kernels can read it."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _other_sizes(manifest: dict[str, Any]) -> str:
    """How to get another size: the model was made static by flags, or is so by itself."""
    if manifest["shapes"] or manifest["options"]["dims"]:
        return "compile again with other --shape or --dim"
    return "the model itself is static: export it with an open dimension"


def load(path: str | Path, threads: int | None = None) -> Module:
    """Load the artifact at `path`.

    `threads`: how many a call uses; by default what it was compiled with, else the CPUs this
    process may use (affinity and cgroup quota). Raises ArtifactError, before any code is
    mapped, when the file, this machine or the installed versions do not fit.
    """
    path = Path(path)
    manifest = sections.read_manifest(path)
    check_fits(manifest, path)
    if threads is not None and threads < 1:
        raise OptionError(f"{threads} threads", expected="at least 1")
    return Module(path, manifest, threads or manifest["threads"] or host.default_threads())


def check_fits(manifest: dict[str, Any], path: Path) -> None:
    """Raise ArtifactError when this machine or these versions cannot run the artifact."""
    where = str(path)
    if manifest.get("format") != sections.FORMAT:
        raise ArtifactError(
            f"artifact format {manifest.get('format')}",
            where=where,
            expected=f"format {sections.FORMAT}",
            hint="compile the model again with the installed tilewright",
        )
    needs = manifest["needs"]
    if needs["machine"] != platform.machine():
        raise ArtifactError(
            f"the artifact is for {needs['machine']}",
            where=where,
            expected=f"{platform.machine()}, which this machine is",
            hint="compile with -t native",
        )
    missing = [name for name in needs["features"] if name not in host.detect().features]
    if missing:
        raise ArtifactError(
            f"this CPU lacks {', '.join(missing)}",
            where=where,
            expected=f"a CPU like {manifest['target']['name']} ({manifest['target']['title']})",
            hint="compile for this machine with -t native, or for both with -t x86-64-avx2",
        )
    for name in ("apache-tvm", "apache-tvm-ffi"):
        built, found = manifest["versions"][name], _installed(name)
        if _minor(built) != _minor(found):
            raise ArtifactError(
                f"{name} {found} is installed",
                where=where,
                expected=f"{_minor(built)}.x, with which the artifact was built",
                hint=f"pip install '{name}=={built}', or compile the model again",
            )


def _minor(text: str) -> str:
    return ".".join(text.split(".")[:2])


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError as error:
        raise ArtifactError(
            f"{name} is not installed", expected="TVM's runtime", hint=f"pip install {name}"
        ) from error


def _spec(row: dict[str, Any]) -> TensorSpec:
    shape = None if row["shape"] is None else tuple(row["shape"])
    return TensorSpec(row["name"], row["dtype"], shape)


@dataclass(frozen=True)
class _Library:
    module: Any
    handle: ctypes.CDLL
    set_threads: pool.SetThreads


def _open(path: Path) -> _Library:
    """Map the library. glibc takes a path it has open for the same file even when the file
    was replaced; a fresh name makes it look again.
    """
    _load_tvm_runtime()
    import tvm_ffi

    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        alias = Path(folder) / "model.so"
        alias.symlink_to(path.resolve())
        try:
            handle = ctypes.CDLL(str(alias))
            module = tvm_ffi.load_module(str(alias))
        except (OSError, RuntimeError) as error:
            raise ArtifactError(
                f"the library cannot be loaded: {str(error).replace(str(alias), path.name)}",
                where=str(path),
                hint="compile the model again on this machine",
            ) from error
    try:
        set_threads = pool.join(handle)
    except AttributeError as error:
        raise ArtifactError(
            "the thread pool is missing",
            where=str(path),
            hint="compile the model again with the installed tilewright",
        ) from error
    return _Library(module, handle, set_threads)


def _load_tvm_runtime() -> None:
    if "tvm" in sys.modules:
        return  # The full TVM brings its runtime along.
    import tvm_ffi  # noqa: F401 - the runtime needs its symbols

    spec = importlib.util.find_spec("tvm")
    if spec is None:
        raise ArtifactError(
            "TVM's runtime is not installed", hint="pip install apache-tvm==0.27.0.post1"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    # The second one has what sorting kernels call.
    for name in ("libtvm_runtime.so", "libtvm_runtime_extra.so"):
        ctypes.CDLL(str(folder / "lib" / name), ctypes.RTLD_GLOBAL)


def _weight_tensors(
    path: Path, handle: ctypes.CDLL, table: dict[str, Any]
) -> tuple[list[Any], range]:
    """Tensors over the mapped section, and its addresses.

    The library stays mapped as long as the Module lives.
    """
    import tvm_ffi

    try:
        start = ctypes.addressof(ctypes.c_char.in_dll(handle, sections.WEIGHTS_SYMBOL))
    except ValueError as error:
        raise ArtifactError("the weights are missing", where=str(path)) from error
    tensors, end = [], start
    for row in table["tensors"]:
        dtype = np.dtype(row["dtype"])
        count = int(np.prod(row["shape"], dtype=np.int64))
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(start + row["offset"])
        array = np.frombuffer(memory, dtype).reshape(row["shape"])
        tensors.append(tvm_ffi.from_dlpack(array if count else _empty_like(array)))
        end = max(end, start + row["offset"] + array.nbytes)
    return tensors, range(start, end)


def _array(spec: TensorSpec, array: Any) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        array = np.from_dlpack(array) if hasattr(array, "__dlpack__") else np.asarray(array)
    small = spec.dtype in STORED
    if (array.dtype.name if small else array.dtype) != spec.dtype:
        raise InputError(
            f"input {spec.name!r} is {array.dtype}",
            expected=spec.dtype,
            hint=f"convert it: array.astype({spec.dtype!r})",
        )
    return stored(array) if small else array


def _empty_like(array: np.ndarray) -> np.ndarray:
    """An array without elements whose strides kernels take for those of a contiguous one.

    numpy gives it strides of 0.
    """
    steps = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    return np.lib.stride_tricks.as_strided(
        np.empty(array.shape, array.dtype), strides=[array.itemsize * step for step in steps]
    )


def _memory(array: np.ndarray) -> range:
    """The addresses of a contiguous array."""
    start = array.ctypes.data
    return range(start, start + array.nbytes)


def _own(array: np.ndarray, borrowed: list[range]) -> np.ndarray:
    """A result that owns its memory: a model may return an input or a weight unchanged."""
    start = array.ctypes.data
    return array.copy() if any(start in memory for memory in borrowed) else array


def _sizes_refused(
    inputs: Sequence[TensorSpec], arrays: list[np.ndarray], error: Exception
) -> InputError:
    """The error for sizes at which two paths of the model do not meet."""
    given = (f"{spec.name} {list(a.shape)}" for spec, a in zip(inputs, arrays, strict=True))
    found = re.search(r"\((\d+ vs\. \d+)\)", str(error))
    return InputError(
        "the model does not take these sizes: what two of its paths make of them does not fit"
        + (f" ({found[1]})" if found else ""),
        where=f"inputs {', '.join(given)}",
        expected="sizes that its strides divide, such as multiples of 32",
    )
