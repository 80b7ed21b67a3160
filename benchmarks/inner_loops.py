"""What the innermost loops of products and convolutions consist of, on boards' cores.

    python -m benchmarks.inner_loops [--models NAME ...] [--targets rpi3 rpi4 rpi5] [--zoo DIR]

Each model is compiled for each target, and the code of every kernel that a rule for products or
convolutions wrote is read back (Capstone). Of each kernel it is the innermost loop, one without
another loop inside, that has the most multiply-adds. Its instructions are multiply-adds, loads
of what they multiply, and others: counters, addresses, prefetches, the branch. A spill is a load or
store relative to the stack pointer. Writes results/inner_loops.json.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from tilewright.compiler import pipeline
from tilewright.compiler.kernel_cache import KernelCache, default_folder
from tilewright.compiler.lower import RULE
from tilewright.options import CompileOptions
from tilewright.targets import resolve

NAME = "inner_loops"
MODELS = ("resnet50", "mobilenetv2_100", "trained_minilm_l6_s128")
TARGETS = ("rpi3", "rpi4", "rpi5")
RULES = ("linear", "conv", "winograd", "mlp")
_MULTIPLY_ADDS = re.compile(r"fmla|fmls|fmadd|[su]dot")
_LOADS = re.compile(r"ld(r|p|ur|1r?|np)\b")


@dataclass(frozen=True)
class Loop:
    """Instructions of an innermost loop."""

    instructions: int
    multiply_adds: int
    loads: int
    spills: int

    @property
    def share(self) -> float:
        """Of multiply-adds and their loads."""
        return (self.multiply_adds + self.loads) / self.instructions


def main(words: Sequence[str] | None = None) -> int:
    """Compile, read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    arguments = parser.parse_args(words)
    rows: dict[str, list[dict[str, Any]]] = {}
    for target in arguments.targets:
        for name in arguments.models:
            found = kernels(arguments.zoo / "models" / f"{name}.onnx", target)
            rows[f"{target} {name}"] = found
            machine.write(NAME, {"kernels": rows, "summary": summary(rows)})
    print_table(summary(rows))
    return 0


def kernels(model: Path, target: str) -> list[dict[str, Any]]:
    """The hottest loop of each kernel of a rule for products or convolutions."""
    sys.setrecursionlimit(20_000)
    with tempfile.TemporaryDirectory() as folder:
        work = pipeline.Work(
            path=model,
            target=resolve(target),
            options=CompileOptions(standalone="model"),
            shapes={},
            folder=Path(folder),
            cache=KernelCache(default_folder()),
        )
        for stage in pipeline.chosen_stages(work.options):
            stage.run(work)
            if stage.name == "codegen":
                break
        objects = {path.stem[:32]: path for path in work.objects.files}
        rows = []
        for name in sorted(set(work.kernels)):
            rule = str(work.mod[name].attrs.get(RULE, "fallback"))
            symbol = work.objects.symbols[f"__tvm_ffi_{name}"]
            loop = hottest(objects[symbol.removeprefix("__tvm_ffi_k_")]) if rule in RULES else None
            if loop is not None:
                rows.append({"kernel": name, "rule": rule, "share": loop.share, **asdict(loop)})
    return rows


def hottest(path: Path) -> Loop | None:
    """The innermost loop of an object with the most multiply-adds; None where there is none."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        codes = [s.data() for s in elf.iter_sections() if s["sh_flags"] & 4 and s["sh_size"]]
    found = [loop for code in codes for loop in innermost(instructions(code))]
    return max(found, key=lambda loop: (loop.multiply_adds, loop.share), default=None)


def instructions(code: bytes) -> list[tuple[int, str, str]]:
    """Address, mnemonic and operands of each instruction of AArch64 code."""
    import capstone

    reader = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    reader.skipdata = True
    return [(at, name, rest) for at, _size, name, rest in reader.disasm_lite(code, 0)]


def innermost(listing: Sequence[tuple[int, str, str]]) -> list[Loop]:
    """Loops with multiply-adds and without another loop inside."""
    ends = []
    for at, name, rest in listing:
        target = re.search(r"#0x([0-9a-f]+)$|#(\d+)$", rest)
        if target and re.match(r"b\.|cbn?z|tbn?z|b$", name):
            to = int(target[1], 16) if target[1] else int(target[2])
            if to <= at:
                ends.append((to, at))
    inner = [
        (low, high)
        for low, high in ends
        if not any((a, b) != (low, high) and low <= a and b <= high for a, b in ends)
    ]
    loops = [_loop([row for row in listing if low <= row[0] <= high]) for low, high in inner]
    return [loop for loop in loops if loop.multiply_adds]


def _loop(rows: Sequence[tuple[int, str, str]]) -> Loop:
    on_stack = [name for _at, name, rest in rows if re.search(r"\[sp\b", rest)]
    adds = sum(bool(_MULTIPLY_ADDS.match(name)) for _at, name, _rest in rows)
    loads = sum(bool(_LOADS.match(name)) and "[sp" not in rest for _at, name, rest in rows)
    return Loop(len(rows), adds, loads, len(on_stack))


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Shares and spills of all kernels of each target and rule."""
    found: dict[str, dict[str, Any]] = {}
    for target in dict.fromkeys(key.split()[0] for key in rows):
        of_target = [row for key in rows if key.split()[0] == target for row in rows[key]]
        for rule in sorted({row["rule"] for row in of_target}):
            shares = [row["share"] for row in of_target if row["rule"] == rule]
            found[f"{target} {rule}"] = {
                "kernels": len(shares),
                "least": min(shares),
                "median": statistics.median(shares),
                "below_80": sum(share < 0.8 for share in shares),
                "spills": sum(row["spills"] > 0 for row in of_target if row["rule"] == rule),
            }
    return found


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each target and rule."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("target, rule", "kernels", "median share", "least", "below 80%", "spill"):
        table.add_column(title, justify="left" if title == "target, rule" else "right")
    for key, row in rows.items():
        shares = [f"{row[name]:.0%}" for name in ("median", "least")]
        counts = [str(row[name]) for name in ("below_80", "spills")]
        table.add_row(key, str(row["kernels"]), *shares, *counts)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
