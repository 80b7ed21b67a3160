"""How long a user waits before anything happens: python -m benchmarks.startup [--zoo DIR]

`import tilewright`, `tilewright --help`, and loading ResNet-50, each in fresh processes; the
median of eleven, with the spread. Loading is shown twice: the library alone, with the Python
packages imported before, and with importing numpy and tvm-ffi in it. Writes
results/startup.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tilewright
from benchmarks import machine

RUNS = 11
_TIMED_IMPORT = (
    "import time; t = time.perf_counter(); import tilewright; print(time.perf_counter() - t)"
)
_LOAD_WITH_IMPORTS = (
    "import sys, time, tilewright; t = time.perf_counter(); tilewright.load(sys.argv[1]); "
    "print(time.perf_counter() - t)"
)
_LOAD_ALONE = (
    "import sys, time, tvm_ffi, tilewright.compiler.runtime as r; t = time.perf_counter(); "
    "r.load(sys.argv[1]); print(time.perf_counter() - t)"
)


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    zoo = parser.parse_args().zoo
    script = str(Path(sys.executable).with_name("tilewright"))
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "resnet50.so"
        artifact = tilewright.compile(zoo / "models" / "resnet50.onnx", check=False, db=False)
        artifact.save(library)
        weights = artifact.manifest["weights"]["bytes"]
        times = {
            "import tilewright": _printed(_TIMED_IMPORT),
            "tilewright --help": _whole([script, "--help"]),
            "load resnet50": _printed(_LOAD_ALONE, str(library)),
            "load resnet50, imports included": _printed(_LOAD_WITH_IMPORTS, str(library)),
        }
        beyond = library.stat().st_size - weights
    rows = {name: _spread(values) for name, values in times.items()}
    for name, row in rows.items():
        print(f"{name:34} {row['median']:.4f} s  ({row['min']:.4f} .. {row['max']:.4f})")
    print(f"{'resnet50.so beyond its weights':34} {beyond / 1e6:.2f} MB")
    print(machine.write("startup", {"seconds": rows, "bytes_beyond_weights": beyond}))
    return 0


def _printed(code: str, *arguments: str) -> list[float]:
    """Seconds that each fresh process printed."""
    command = [sys.executable, "-c", code, *arguments]
    return [float(subprocess.check_output(command, text=True)) for _ in range(RUNS)]


def _whole(command: list[str]) -> list[float]:
    """Seconds that each process took from start to end."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    sys.exit(main())
