"""Read a CTranslate2 `model.bin`, the format in which the Whisper checkpoint is packed.

The file is little-endian: version u32, spec name, revision u32, then the variables (count u32;
each: name, rank u8, dimensions u32, dtype u8, byte count u32, data), then the aliases (count
u32; each: alias, name). A text is its length u16 and that many bytes, the last of them NUL.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from tools.zoo.errors import ZooError

BINARY_VERSION = 6
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
FLOATS = (np.float32, np.float16)


class _Reader:
    """Reads numbers, texts and arrays one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def _take(self, size: int) -> bytes:
        start, self._position = self._position, self._position + size
        return self._data[start : self._position]

    def u8(self) -> int:
        return self._take(1)[0]

    def u16(self) -> int:
        return struct.unpack("<H", self._take(2))[0]

    def u32(self) -> int:
        return struct.unpack("<I", self._take(4))[0]

    def text(self) -> str:
        return self._take(self.u16()).rstrip(b"\0").decode()

    def array(self) -> np.ndarray:
        shape = [self.u32() for _ in range(self.u8())]
        dtype = DTYPES[self.u8()]
        values = np.frombuffer(self._take(self.u32()), dtype).reshape(shape)
        return values.astype(np.float32) if dtype in FLOATS else values


def read(path: Path, spec: str) -> dict[str, np.ndarray]:
    """The variables of a model that must be of `spec`, half precision widened to float32."""
    reader = _Reader(path.read_bytes())
    version, found, _revision = reader.u32(), reader.text(), reader.u32()
    if (version, found) != (BINARY_VERSION, spec):
        raise ZooError(
            f"{path}: holds {found!r} in version {version} of the format, "
            f"want {spec!r} in version {BINARY_VERSION}",
            hint="fetch the package at the version that the catalog pins",
        )
    variables = {}
    for _ in range(reader.u32()):
        name = reader.text()
        variables[name] = reader.array()
    for _ in range(reader.u32()):
        alias = reader.text()
        variables[alias] = variables[reader.text()]
    return variables
