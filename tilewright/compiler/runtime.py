"""Load an artifact and run it: numpy in, numpy out.

Never needs the compiler, onnx or onnxruntime; TVM's runtime library and tvm-ffi only for what
TVM's VM runs. Everything that may not fit (file, machine, CPU features, versions) is checked before
the library is mapped, so that a wrong file is a sentence and not an illegal instruction.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import math
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler import pool, sections
from tilewright.compiler.small_types import STORED, restored, stored
from tilewright.compiler.standalone.machine import (
    ALIGNMENT,
    StandaloneMachine,
    address_of,
    aligned,
    functions_of,
)
from tilewright.errors import NO_POSITIONS, ArtifactError, InputError, OptionError
from tilewright.targets import Target, host

_CPU = 1  # kDLCPU
_POOLED_ALLOCATOR = 2
# What TVM's VM and a standalone library say when sizes that must be the same are not.
_MISMATCHES = ("match_cast error", "does not take these sizes")


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
        self._library = (_Tables if manifest["functions"] else _Vm)(path, manifest)
        self._small = any(spec.dtype in STORED for spec in self.outputs)
        # What a model returns unchanged is not its own to give.
        self._lent = not all(row["owned"] for row in manifest["outputs"])
        # Popped and appended to, each of which is one step for all threads.
        self._idle = [self._new_machine()]

    @property
    def weight_addresses(self) -> range:
        """Where the weights lie; every other tensor of a run lies elsewhere."""
        return self._library.weights

    def __call__(self, *arrays: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """Run once: `module(x)`, `module(x, y)` or `module({"x": x, "y": y})`.

        Takes numpy arrays and anything with DLPack; copies only what is not contiguous, and for
        a model that TVM's VM runs what is not on a 64-byte boundary. Returns an array, or a tuple
        in output order. Raises InputError when a name, dtype or shape does not fit.
        """
        given = self._by_position(arrays)
        read = [_array(spec, array) for spec, array in zip(self.inputs, given, strict=True)]
        self._check_shapes(read)
        try:
            machine = self._idle.pop()
        except IndexError:
            machine = self._new_machine()
        try:
            read = [machine.in_place(number, array) for number, array in enumerate(read)]
            try:
                results = machine.run(read, self.threads)
            except Exception as error:
                if not any(said in str(error) for said in _MISMATCHES):
                    raise
                raise _sizes_refused(self.inputs, read, error) from error
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

        Also around what TVM's VM itself calls, whose names start with `vm.`. For measurements:
        every call costs a few microseconds more from here on. Calls that overlap are not all
        watched.
        """
        self._idle[-1].run.watch(before_and_after)

    def __repr__(self) -> str:
        sides = [", ".join(map(str, side)) for side in (self.inputs, self.outputs)]
        return f"<tilewright.Module {self.manifest['name']}: ({sides[0]}) -> ({sides[1]})>"

    def _new_machine(self) -> _Machine:
        return _Machine(self._library.new_run(), len(self.inputs))

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
    """What runs a library, for one call at a time, and room for what it cannot read in place.

    The room is kept: the system takes longer to give fresh memory than copying an image takes.
    """

    def __init__(self, run: _VmRun | StandaloneMachine, inputs: int) -> None:
        self.run = run
        self._rooms = [np.empty(0, np.uint8)] * inputs

    def in_place(self, number: int, array: np.ndarray) -> np.ndarray:
        """Input `number` itself when kernels can read it there, else an aligned copy."""
        if not array.size:
            return _empty_like(array)
        if self.run.reads(array):
            return array
        room = self._rooms[number]
        if room.shape != array.shape or room.dtype != array.dtype:
            room = self._rooms[number] = aligned(array.shape, array.dtype)
        room[...] = array
        return room


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
    here, target = host.detect(), Target.from_dict(manifest["target"])
    if not target.machine.is_here(here.machine):
        raise ArtifactError(
            f"the artifact is for {target.machine.name}",
            where=where,
            expected=f"{here.machine}, which this machine is",
            hint="compile with -t native",
        )
    if missing := host.lacks(target):
        raise ArtifactError(
            f"this CPU lacks {', '.join(missing)}",
            where=where,
            expected=f"a CPU like {manifest['target']['name']} ({manifest['target']['title']})",
            hint="compile for this machine with -t native, or for both with -t x86-64-avx2",
        )
    for name in () if manifest["functions"] else ("apache-tvm", "apache-tvm-ffi"):
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


class _Vm:
    """A library that TVM's runtime loads."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        _load_tvm_runtime()
        import tvm_ffi

        with _fresh_name(path) as alias:
            self._handle = ctypes.CDLL(alias)
            self._module = tvm_ffi.load_module(alias)
        self._set_threads = _joined(self._handle, path)
        self.weights = _weight_addresses(path, self._handle, manifest)
        self._tensors = _weight_tensors(self.weights.start, manifest["weights"]["tensors"])
        self._single = len(manifest["outputs"]) == 1

    def new_run(self) -> _VmRun:
        """A VM, for one call at a time."""
        vm = self._module["vm_load_executable"]()
        vm["vm_initialization"](_CPU, 0, _POOLED_ALLOCATOR)
        return _VmRun(vm, self._tensors, self._set_threads, self._single)


class _VmRun:
    def __init__(
        self, vm: Any, weights: list[Any], set_threads: pool.SetThreads, single: bool
    ) -> None:
        self._vm, self._main, self._weights = vm, vm["main"], weights
        self._set_threads, self._single = set_threads, single

    @staticmethod
    def reads(array: np.ndarray) -> bool:
        """Whether TVM takes an array as it is."""
        flags = array.flags
        return flags.c_contiguous and flags.writeable and address_of(array) % ALIGNMENT == 0

    def __call__(self, arrays: Sequence[np.ndarray], threads: int) -> list[np.ndarray]:
        self._set_threads(threads)
        result = self._main(*arrays, *self._weights)
        return [np.from_dlpack(tensor) for tensor in ([result] if self._single else result)]

    def watch(self, before_and_after: Callable[..., None]) -> None:
        """`Module.watch`."""
        import tvm_ffi

        self._vm["set_instrument"](tvm_ffi.convert(before_and_after))


class _Tables:
    """A library that runs by itself."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self._manifest = manifest
        with _fresh_name(path) as alias:
            self._handle = ctypes.CDLL(alias)
        self._set_threads = _joined(self._handle, path)
        try:
            self._functions = functions_of(self._handle, manifest["functions"])
        except AttributeError as error:
            raise ArtifactError(f"a function is missing: {error}", where=str(path)) from error
        self.weights = _weight_addresses(path, self._handle, manifest)

    def new_run(self) -> StandaloneMachine:
        """A model of its own."""
        return StandaloneMachine(self._functions, self._manifest, self._set_threads)


@contextlib.contextmanager
def _fresh_name(path: Path) -> Iterator[str]:
    """Another name of a library that is about to be mapped.

    glibc takes a path it has open for the same file even when the file was replaced; a fresh name
    makes it look again.
    """
    with tempfile.TemporaryDirectory(prefix="tilewright-") as folder:
        alias = Path(folder) / "model.so"
        alias.symlink_to(path.resolve())
        try:
            yield str(alias)
        except (OSError, RuntimeError) as error:
            raise ArtifactError(
                f"the library cannot be loaded: {str(error).replace(str(alias), path.name)}",
                where=str(path),
                hint="compile the model again on this machine",
            ) from error


def _joined(handle: ctypes.CDLL, path: Path) -> pool.SetThreads:
    """Let the library run on the workers that all share."""
    try:
        return pool.join(handle)
    except AttributeError as error:
        raise ArtifactError(
            "the thread pool is missing",
            where=str(path),
            hint="compile the model again with the installed tilewright",
        ) from error


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


def _weight_addresses(path: Path, handle: ctypes.CDLL, manifest: dict[str, Any]) -> range:
    """Where the weights lie; the library stays mapped as long as the Module lives."""
    try:
        symbol = sections.weights_symbol(manifest["functions"])
        start = ctypes.addressof(ctypes.c_char.in_dll(handle, symbol))
    except ValueError as error:
        raise ArtifactError("the weights are missing", where=str(path)) from error
    rows = manifest["weights"]["tensors"]
    ends = (start + row["offset"] + _weight_bytes(row) for row in rows)
    return range(start, max(ends, default=start))


def _weight_bytes(row: dict[str, Any]) -> int:
    return math.prod(row["shape"]) * np.dtype(row["dtype"]).itemsize


def _weight_tensors(start: int, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """TVM's tensors over the mapped section."""
    import tvm_ffi

    tensors = []
    for row in rows:
        size = _weight_bytes(row)
        memory = (ctypes.c_char * size).from_address(start + row["offset"])
        array = np.frombuffer(memory, row["dtype"]).reshape(row["shape"])
        tensors.append(tvm_ffi.from_dlpack(array if size else _empty_like(array)))
    return tensors


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
    """The error for sizes at which a kernel has nothing to do, or two paths do not meet."""
    given = (f"{spec.name} {list(a.shape)}" for spec, a in zip(inputs, arrays, strict=True))
    where = f"inputs {', '.join(given)}"
    if NO_POSITIONS in str(error):
        expected = "larger sizes: those that are pooled get smaller on the way"
        return InputError(NO_POSITIONS, where=where, expected=expected)
    found = re.search(r"\((\d+ vs\. \d+)\)", str(error))
    return InputError(
        "the model does not take these sizes: what two of its paths make of them does not fit"
        + (f" ({found[1]})" if found else ""),
        where=where,
        expected="sizes that its strides divide, such as multiples of 32",
    )
