"""Objects of C sources that every library has, kept in the cache beside those of kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tilewright.compiler.kernel_cache import KernelCache
from tilewright.targets.toolchain import Toolchain


def compile_c(
    source: Path,
    output: Path,
    tools: Toolchain,
    cache: KernelCache | None,
    headers: Sequence[Path] = (),
) -> Path:
    """`output`, an object of `source`; `headers` are those of ours that it includes."""
    key = _key((source, *headers), tools)
    kept = cache.read(key) if cache else None
    if kept is not None:
        output.write_bytes(kept)
        return output
    tools.compile_c(source, output)
    if cache:
        cache.write(key, output.read_bytes())
    return output


def _key(files: Sequence[Path], tools: Toolchain) -> str:
    digest = hashlib.sha256(repr(tools.identity()).encode())
    for path in files:
        digest.update(path.read_bytes())
    return f"c-{digest.hexdigest()}"
