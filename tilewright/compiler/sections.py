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
from tilewright.targets.toolchain import HOST, Toolchain

# Changes when the meaning of a manifest's keys does (docs/artifact.md).
FORMAT = 4
MANIFEST_SECTION = ".tilewright.manifest"
WEIGHTS_SECTION = ".tilewright.weights"

_MANIFEST = """\
    .section {section},"a",%progbits
    .incbin "{manifest}"
    .section .note.GNU-stack,"",%progbits
"""
_WEIGHTS = """\
    .section {section},"a",%progbits
    .balign 4096
    .globl {symbol}
    .type {symbol}, %object
{symbol}:
    .incbin "{weights}"
    .byte 0
    .size {symbol}, .-{symbol}
    .section .note.GNU-stack,"",%progbits
"""


def write_manifest(manifest: dict[str, Any], folder: Path, tools: Toolchain = HOST) -> Path:
    """An object file in `folder` with the manifest's section."""
    text = folder / "manifest.json"
    # In its own order: that of the dimensions counts.
    text.write_text(json.dumps(manifest))
    return _assembled(_MANIFEST.format(section=MANIFEST_SECTION, manifest=text), text, tools)


def weights_symbol(functions: str | None) -> str:
    """Where the weights start in a library whose C functions start with `functions`, or has none.

    Archives of several models may be linked into one program.
    """
    return "tilewright_weights" + (f"_{functions}" if functions else "")


def write_weights(weights: Path, symbol: str, tools: Toolchain = HOST) -> Path:
    """An object file beside the file `weights`, with the section that holds its content.

    `symbol` is where it starts.
    """
    code = _WEIGHTS.format(section=WEIGHTS_SECTION, symbol=symbol, weights=weights)
    return _assembled(code, weights, tools)


def _assembled(code: str, beside: Path, tools: Toolchain) -> Path:
    source, output = beside.with_suffix(".S"), beside.with_suffix(".o")
    source.write_text(code)
    tools.assemble(source, output)
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
