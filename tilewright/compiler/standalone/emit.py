"""A plan as C: the tables that `runtime.c` walks, and the functions that a program calls."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilewright.compiler.sections import weights_symbol
from tilewright.compiler.small_types import STORED
from tilewright.compiler.standalone.expressions import PRELUDE
from tilewright.compiler.standalone.plan import Plan

FOLDER = Path(__file__).parent
# DLPack's codes of types (dlpack.h), by numpy's names.
_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}
_ENTRIES = ("INPUT", "OUTPUT")


def header(prefix: str, interface: Mapping[str, Any]) -> str:
    """`PREFIX.h`: what a program calls, with the names and sizes of inputs and outputs."""
    rows = [
        _described(entry, number, row)
        for entry, key in zip(_ENTRIES, ("inputs", "outputs"), strict=True)
        for number, row in enumerate(interface[key])
    ]
    dims = [
        f"/* dimension {number}: {_comment(name)}, {low}..{high} */"
        for number, (name, (low, high)) in enumerate(interface["dims"].items())
    ]
    names = {"PREFIX": prefix.upper(), "prefix": prefix, "TENSORS": "\n".join([*rows, *dims])}
    names |= {
        "INPUTS": str(len(interface["inputs"])),
        "OUTPUTS": str(len(interface["outputs"])),
        "DIMS": str(len(interface["dims"])),
        "SIZES": "\n".join(
            f"#define {prefix.upper()}_{entry}_{number}_BYTES {size}"
            for entry, key in zip(_ENTRIES, ("inputs", "outputs"), strict=True)
            for number, row in enumerate(interface[key])
            if (size := _bytes(row)) is not None
        ),
    }
    return _filled((FOLDER / "model.h.in").read_text(), names)


def source(
    prefix: str, plan: Plan, interface: Mapping[str, Any], symbols: Mapping[str, str], threads: int
) -> str:
    """`PREFIX.c`: the tables, and the functions of the header.

    `symbols` are the names of kernels' functions; `threads` how many a run uses, 0: all there are.
    """
    kernels = sorted({symbols[step.kernel] for step in plan.steps})
    arguments = [row for step in plan.steps for row in step.arguments]
    shapes = [size for tensor in plan.tensors for size in tensor.sizes]
    counts = {
        "dims": len(plan.dims),
        "inputs": plan.inputs,
        "outputs": len(plan.sources),
        "sizes": len(plan.sizes),
        "tensors": len(plan.tensors),
        "shape_count": len(shapes),
        "arguments": len(arguments),
        "steps": len(plan.steps),
        "blocks": len(plan.blocks),
        "checks": len(plan.checks),
    }
    names = {
        "prefix": prefix,
        "PRELUDE": PRELUDE if plan.dims else "",
        "KERNELS": "\n".join(f"extern {_SIGNATURE.format(name)};" for name in kernels),
        "DIM_NAMES": _table(json.dumps(name) for name in interface["dims"]),
        "BOUNDS": _table(f"{{{low}, {high}}}" for low, high in interface["dims"].values()),
        "TENSORS": _table(_tensor_rows(plan)),
        "SHAPES": _table(map(str, shapes)),
        "ARGUMENTS": _table(
            f"{{-1, {n}}}" if kind == "size" else f"{{{n}, -1}}" for kind, n in arguments
        ),
        "STEPS": _table(_step_rows(plan, symbols)),
        "BLOCKS": _table(map(str, plan.blocks)),
        "CHECKS": _table(f"{{{one}, {other}}}" for one, other in plan.checks),
        "SOURCES": _table(str(-1 if source is None else source) for source in plan.sources),
        "FILL": "\n".join(f"  sizes[{n}] = {text};" for n, text in enumerate(plan.sizes)),
        "COUNTS": ", ".join(f".{name} = {count}" for name, count in counts.items()),
        "WEIGHTS": weights_symbol(prefix),
        "INPUT_COUNT": str(plan.inputs),
        "THREADS": str(threads),
    }
    return _filled((FOLDER / "model.c.in").read_text(), names)


_SIGNATURE = "int {}(void *, const struct tilewright_any *, int32_t, struct tilewright_any *)"


def _filled(template: str, names: Mapping[str, str]) -> str:
    """`template` with each @NAME@ replaced."""
    return re.sub(r"@(\w+)@", lambda found: names[found[1]], template)


def _table(rows: Any) -> str:
    """The rows of an array; one that nobody reads where there are none, as C has no empty ones."""
    return ",\n  ".join(rows) or "0"


def _tensor_rows(plan: Plan) -> list[str]:
    rows, first = [], 0
    for tensor in plan.tensors:
        place = tensor.place
        code, bits = _dlpack_type(tensor.dtype)
        rows.append(
            f"{{TILEWRIGHT_{place.kind}, {place.index}, {place.offset}, "
            f"{first}, {len(tensor.sizes)}, {code}, {bits}}}"
        )
        first += len(tensor.sizes)
    return rows


def _step_rows(plan: Plan, symbols: Mapping[str, str]) -> list[str]:
    rows, first = [], 0
    for step in plan.steps:
        name = json.dumps(step.kernel)
        rows.append(f"{{{symbols[step.kernel]}, {name}, {first}, {len(step.arguments)}}}")
        first += len(step.arguments)
    return rows


def _dlpack_type(dtype: str) -> tuple[int, int]:
    found = re.fullmatch(r"([a-z]+)(\d*)", dtype)
    return _CODES[found[1]], int(found[2] or 8)


def _described(entry: str, number: int, row: Mapping[str, Any]) -> str:
    shape = ", ".join(str(size) for size in row["shape"])
    dtype = row["dtype"] + (f" in {STORED[row['dtype']]}" if row["dtype"] in STORED else "")
    return f"/* {entry.lower()} {number}: {_comment(row['name'])}, {dtype}[{shape}] */"


def _comment(text: str) -> str:
    """A name as part of a comment, which it must not end."""
    return json.dumps(text).replace("*/", "*\\/")


def _bytes(row: Mapping[str, Any]) -> int | None:
    """The bytes of an input or output whose sizes are known."""
    if not all(isinstance(size, int) for size in row["shape"]):
        return None
    return math.prod(row["shape"]) * _dlpack_type(STORED.get(row["dtype"], row["dtype"]))[1] // 8
