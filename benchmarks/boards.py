"""Bundles for boards, compiled here and tested in an emulator.

    python -m benchmarks.boards [--models NAME ...] [--targets NAME ...] [--zoo DIR]
                                [--root FAMILY=DIR ...] [--resume]

Each model is compiled for each target with what pip installs, and its bundle runs `run --selftest`
under QEMU's user mode, with the C library of --root: a folder with a root file system, such as
debootstrap makes; by default where Debian's libc6-arm64-cross and libc6-armhf-cross put theirs.
Seconds of the compilation, sizes, what was found in the library, and how far the outputs are from
ONNX Runtime's. Times in an emulator say nothing and are left out. Writes results/boards.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from tilewright.targets import resolve

NAME = "boards"
TARGETS = ("rpi4", "aarch64", "rpi3-32")
MODELS = (
    *("trained_ppocr_cls", "mobilenetv2_100", "trained_minilm_l6_s128"),
    *("trained_whisper_tiny_en_encoder", "unet_convtranspose_256"),
)
# QEMU's program for a family, and the C library of Debian's cross packages.
EMULATORS = {"aarch64": "qemu-aarch64-static", "armv7": "qemu-arm-static"}
ROOTS = {"aarch64": "/usr/aarch64-linux-gnu", "armv7": "/usr/arm-linux-gnueabihf"}
SECONDS = 3600


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, write. Returns 0 when every bundle passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--root", nargs="+", default=[], metavar="FAMILY=DIR")
    parser.add_argument("--resume", action="store_true", help="keep rows that are there")
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    arguments = parser.parse_args(words)
    roots = ROOTS | dict(text.split("=", 1) for text in arguments.root)
    file = machine.RESULTS / f"{NAME}.json"
    rows = json.loads(file.read_text())["rows"] if arguments.resume and file.is_file() else {}
    for target in arguments.targets:
        for model in arguments.models:
            key = f"{model} {target}"
            if key in rows and rows[key]["passed"]:
                continue
            path = arguments.zoo / "models" / f"{model}.onnx"
            rows[key] = measure(path, target, Path(roots[resolve(target).machine.name]))
            machine.write(NAME, {"rows": rows})
    print_table(rows)
    return 0 if all(row["passed"] for row in rows.values()) else 1


def measure(model: Path, target: str, root: Path) -> dict[str, Any]:
    """One model for one target."""
    emulator = shutil.which(EMULATORS[resolve(target).machine.name])
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        command = [sys.executable, "-m", "tilewright", "compile", model, "-t", target]
        start = time.perf_counter()
        built = _said([*command, "--no-db", "--bundle", bundle])
        seconds = time.perf_counter() - start
        if built.returncode:
            return {"passed": False, "seconds": seconds, "said": _last(built.stderr)}
        tested = _said([emulator, "-L", root, bundle / "run", "--selftest"])
        return {
            "passed": tested.returncode == 0 and "selftest passed" in tested.stdout,
            "seconds": seconds,
            "library_bytes": (bundle / "model.so").stat().st_size,
            "inspection": _inspection(built.stderr),
            "root": describe(root),
            "outputs": outputs(tested.stdout),
            "said": _last(tested.stdout + tested.stderr),
        }


def describe(root: Path) -> dict[str, Any]:
    """What a root file system is: its system, and whether it has Python or TVM."""
    release = root / "etc" / "os-release"
    name = re.search(r'PRETTY_NAME="(.*)"', release.read_text()) if release.is_file() else None
    found = any(root.glob("usr/bin/python3*")) or any(root.rglob("libtvm*"))
    return {"system": name[1] if name else "the C library alone", "python_or_tvm": found}


def outputs(text: str) -> list[dict[str, Any]]:
    """What a selftest says of each output: its error, and what it may be."""
    pattern = r"^(.*): (passed|FAILED), error (\S+) of the largest value, (\S+) allowed$"
    return [
        {"name": name, "passed": word == "passed", "error": float(error), "allowed": float(allowed)}
        for name, word, error, allowed in re.findall(pattern, text, re.MULTILINE)
    ]


def _said(command: list[Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def _inspection(text: str) -> str:
    found = re.search(r"link\s+[\d.]+ s\s+[\d.]+ MB; (.*)", text)
    return found[1].strip() if found else ""


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each bundle."""
    table = Table("model and target", "passed", "compiled in", "library", "error / allowed")
    for key, row in rows.items():
        shares = [out["error"] / (out["allowed"] or 1) for out in row.get("outputs", [])]
        worst = max(shares, default=0)
        size = f"{row['library_bytes'] / 1e6:.1f} MB" if "library_bytes" in row else "-"
        table.add_row(
            key, "yes" if row["passed"] else "NO", f"{row['seconds']:.0f} s", size, f"{worst:.0%}"
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
