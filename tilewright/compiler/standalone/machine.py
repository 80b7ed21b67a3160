"""Runs a library that needs no TVM from Python, through its C functions."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tilewright.compiler.small_types import STORED

# Results begin on this boundary, where vectors cross no cache lines; arguments of TVM's VM must.
ALIGNMENT = 64
# Of an output up to here a copy takes less time than finding memory where kernels can write.
SMALL_BYTES = 16 * 1024

_POINTER, _INT, _BYTE = ctypes.c_void_p, ctypes.c_int, ctypes.c_char


class _Any(ctypes.Structure):
    """`struct tilewright_any` of runtime.h: a size, or the address of a tensor."""

    _fields_ = (("type", ctypes.c_int32), ("zero", ctypes.c_uint32), ("value", ctypes.c_int64))


class _Tensor(ctypes.Structure):
    """`struct tilewright_dltensor` of runtime.h."""

    _fields_ = (
        ("data", _POINTER),
        ("device", ctypes.c_int32 * 2),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


_DLTENSOR = 7  # kTVMFFIDLTensorPtr
# Kernel, whether before it, its arguments and how many.
_WATCHER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, _INT, ctypes.POINTER(_Any), ctypes.c_int32)
# numpy's kinds by DLPack's codes of types (dlpack.h), where numpy has them; 6 is bool.
_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "create": (_POINTER, ()),
    "free": (None, (_POINTER,)),
    "resize": (_INT, (_POINTER, _POINTER)),
    "run": (_INT, (_POINTER, _POINTER, _POINTER)),
    "error": (ctypes.c_char_p, (_POINTER,)),
    "set_threads": (None, (_POINTER, _INT)),
    "output_shape": (ctypes.POINTER(ctypes.c_int64), (_POINTER, _INT)),
    "watch": (None, (_POINTER, _WATCHER)),
}


def functions_of(handle: ctypes.CDLL, prefix: str) -> dict[str, Callable[..., Any]]:
    """The C functions of the library, by their names without prefix.

    Raises AttributeError when one is missing.
    """
    found = {}
    for name, (result, arguments) in _SIGNATURES.items():
        found[name] = getattr(handle, f"{prefix}_{name}")
        found[name].restype, found[name].argtypes = result, arguments
    return found


class StandaloneMachine:
    """One model of a library, for one call at a time: input arrays in, output arrays out."""

    def __init__(
        self,
        functions: dict[str, Callable[..., Any]],
        manifest: dict[str, Any],
        set_threads: Callable[[int], None],
    ) -> None:
        self._call, self._set_threads = functions, set_threads
        self._model = functions["create"]()
        if not self._model:
            raise MemoryError("no memory for the model")
        weakref.finalize(self, functions["free"], self._model)
        self._outputs = [
            np.dtype(STORED.get(row["dtype"], row["dtype"])) for row in manifest["outputs"]
        ]
        self._ranks = [len(row["shape"]) for row in manifest["outputs"]]
        self._places = [_first_use(name, manifest["inputs"]) for name in manifest["dims"]]
        self._dims = (ctypes.c_int64 * max(1, len(self._places)))()
        self._inputs = (_POINTER * max(1, len(manifest["inputs"])))()
        self._results = (_POINTER * max(1, len(self._outputs)))()
        self._sized: tuple[int, ...] | None = None
        # What makes each output, its shape and type.
        self._made: list[tuple[Callable[..., np.ndarray], tuple[int, ...], np.dtype]] = []
        self._run, self._threads = functions["run"], 0
        # What is called around each kernel, and what it raised.
        self._watcher: Any = None
        self._raised: Exception | None = None

    @staticmethod
    def reads(array: np.ndarray) -> bool:
        """Whether kernels can read an array as it is."""
        return array.flags.c_contiguous and array.flags.aligned

    def __call__(self, arrays: Sequence[np.ndarray], threads: int) -> list[np.ndarray]:
        """Run once. Raises RuntimeError with what the library says, or what a watcher raised."""
        if self._places or self._sized is None:
            sizes = tuple(arrays[number].shape[axis] for number, axis in self._places)
            if sizes != self._sized:
                self._resize(sizes)
        results = [make(shape, dtype) for make, shape, dtype in self._made]
        for number, array in enumerate(arrays):
            self._inputs[number] = address_of(array)
        for number, array in enumerate(results):
            self._results[number] = address_of(array)
        # The library's own workers run it, or another library's, which all share.
        if threads != self._threads:
            self._call["set_threads"](self._model, threads)
            self._threads = threads
        self._set_threads(threads)
        if self._run(self._model, self._inputs, self._results):
            self._check(1)
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised
        return results

    def watch(self, before_and_after: Callable[..., None]) -> None:
        """`Module.watch`: tensors are arrays over the memory that kernels see."""

        def seen(kernel: bytes, before: int, arguments: Any, count: int) -> None:
            # Through the library's C code nothing can be raised: the run goes on, unwatched.
            if self._raised is None:
                values = _values(arguments, count)
                try:
                    before_and_after(None, kernel.decode(), bool(before), None, *values)
                except Exception as raised:
                    self._raised = raised

        # Kept as long as the library may call it.
        self._watcher = _WATCHER(seen)
        self._call["watch"](self._model, self._watcher)

    def _resize(self, sizes: tuple[int, ...]) -> None:
        self._sized = None
        self._dims[: len(sizes)] = sizes
        self._check(self._call["resize"](self._model, self._dims))
        shape = self._call["output_shape"]
        self._made = []
        for number, (rank, dtype) in enumerate(zip(self._ranks, self._outputs, strict=True)):
            found = tuple(shape(self._model, number)[axis] for axis in range(rank))
            small = math.prod(found) * dtype.itemsize <= SMALL_BYTES
            self._made.append((np.empty if small else aligned, found, dtype))
        self._sized = sizes

    def _check(self, code: int) -> None:
        if code:
            raise RuntimeError(self._call["error"](self._model).decode(errors="replace"))


def _values(arguments: Any, count: int) -> Iterator[int | np.ndarray]:
    """What a kernel is given."""
    for argument in arguments[:count]:
        if argument.type != _DLTENSOR:
            yield argument.value
            continue
        tensor = _Tensor.from_address(argument.value)
        shape = tuple(tensor.shape[: tensor.rank])
        width = tensor.bits + 7 >> 3
        # What numpy has no type for, such as bfloat16, as its bits.
        dtype = np.dtype(f"{_KINDS.get(tensor.code, 'u')}{width}")
        if size := math.prod(shape) * width:
            memory = (ctypes.c_char * size).from_address(tensor.data)
            yield np.frombuffer(memory, dtype).reshape(shape)
        else:
            yield np.empty(shape, dtype)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array where kernels can read and write it."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -address_of(memory) % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def address_of(array: np.ndarray) -> int:
    """Where the elements of a contiguous array begin.

    Of one that may be written in a quarter of the time that `array.ctypes.data` takes.
    """
    if array.size and array.flags.writeable:
        return ctypes.addressof(_BYTE.from_buffer(array))
    return array.ctypes.data


def _first_use(name: str, inputs: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Input and axis that say the size of the dimension `name`."""
    return next(
        (number, row["shape"].index(name))
        for number, row in enumerate(inputs)
        if name in row["shape"]
    )
