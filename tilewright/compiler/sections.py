"""The two read-only sections of an artifact: its manifest and its weights.

The manifest is readable without loading the library, so that a file that does not fit this
machine is refused before any of its code is mapped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from tilewright.errors import ArtifactError
from tilewright.targets import toolchain

# Changes when the meaning of a manifest's keys does (docs/artifact.md).
FORMAT = 1
MANIFEST_SECTION = ".tilewright.manifest"
WEIGHTS_SECTION = ".tilewright.weights"
WEIGHTS_SYMBOL = "tilewright_weights"

_ASSEMBLY = """\
    .section {manifest_section},"a",@progbits
    .incbin "{manifest}"
    .section {weights_section},"a",@progbits
    .balign 4096
    .globl {symbol}
    .type {symbol}, @object
{symbol}:
    .incbin "{weights}"
    .byte 0
    .size {symbol}, .-{symbol}
    .section .note.GNU-stack,"",@progbits
"""


def write_object(manifest: dict[str, Any], weights: Path, folder: Path) -> Path:
    """An object file with both sections; `weights` is included as it lies on disk."""
    text = folder / "manifest.json"
    text.write_text(json.dumps(manifest, sort_keys=True))
    source, output = folder / "sections.S", folder / "sections.o"
    source.write_text(
        _ASSEMBLY.format(
            manifest_section=MANIFEST_SECTION,
            weights_section=WEIGHTS_SECTION,
            symbol=WEIGHTS_SYMBOL,
            manifest=text,
            weights=weights,
        )
    )
    toolchain.assemble(source, output)
    return output


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the artifact at `path`, read without loading the library.

    Raises ArtifactError when the file is missing, damaged, or no artifact of ours.
    """
    if not path.is_file():
        raise ArtifactError("there is no such file", where=str(path), expected="a compiled .so")
    try:
        with path.open("rb") as file:
            section = ELFFile(file).get_section_by_name(MANIFEST_SECTION)
            data = section.data() if section else None
    except (ELFError, OSError, ValueError) as error:
        raise ArtifactError(
            f"the file is damaged, or is no shared library: {error}",
            where=str(path),
            expected="a library written by `tilewright compile`",
            hint="if this is a model, compile it first: tilewright compile FILE.onnx",
        ) from error
    if data is None:
        raise ArtifactError(
            "the library was not written by Tilewright",
            where=str(path),
            expected=f"a section {MANIFEST_SECTION}",
        )
    try:
        return json.loads(data)
    except ValueError as error:
        raise ArtifactError("the manifest is damaged", where=str(path)) from error
