"""A tuning session that measures on an emulated board, and what compiles with its records.

    python -m benchmarks.board_session --root DIR [--model NAME] [--target aarch64]
                                       [--tasks GLOB] [--trials 32] [--zoo DIR]

DIR is the root file system of an aarch64 system, with python3 and, in DIR/opt/site, what
`pip install --target` puts there of tilewright's aarch64 wheel set. Its `board serve` runs by
`chroot`, so that this takes root's rights, and a kernel that starts its programs by QEMU
(binfmt_misc, with the flag F). Times in an emulator are those of the emulator: the session is
shown, not the gain. Writes results/board_session.json.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tilewright
from benchmarks import machine
from tilewright.autotune.records import Database
from tilewright.devices import remote
from tilewright.devices.where import Where
from tilewright.errors import TilewrightError

NAME = "board_session"
KEY = "benchmark"
ADDRESS = ("127.0.0.1", 9391)
EMULATOR, LIBRARIES = "qemu-aarch64-static", "/usr/aarch64-linux-gnu"
STARTS_WITHIN = 240.0
SELFTEST_WITHIN = 1200


def main(words: Sequence[str] | None = None) -> int:
    """Run the session, print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--target", default="aarch64")
    parser.add_argument("--tasks", default="conv_block_0")
    parser.add_argument("--trials", type=int, default=32)
    default = Path(os.environ.get("TILEWRIGHT_ZOO", "zoo"))
    parser.add_argument("--zoo", type=Path, default=default, help="folder made by tools.zoo")
    arguments = parser.parse_args(words)
    model = arguments.zoo / "models" / f"{arguments.model}.onnx"
    where = Where(ADDRESS, KEY)
    with tempfile.TemporaryDirectory() as folder, _board(arguments.root):
        facts = _wait_for(where)
        db, begun = Path(folder) / "records.jsonl", time.perf_counter()
        found = tilewright.tune(
            model,
            arguments.target,
            db=db,
            trials=arguments.trials,
            budget=None,
            min_gain=0.0,
            tasks=arguments.tasks,
            threads=1,
            devices=where,
        )
        seconds = time.perf_counter() - begun
        del found["db"]
        result = {"board": facts, "seconds": seconds, "trials": _trials(db), "session": found}
        machine.write(NAME, result)
        result["compiled"] = _compiled(model, arguments.target, db, Path(folder) / "bundle")
    machine.write(NAME, result)
    rows, compiled = result["trials"], result["compiled"]
    print(f"{rows['recorded']} trials in {seconds:.0f} s, {rows['failed']} failed")
    print(f"records are for {rows['target']}")
    print(f"{rows['confirmed']} confirmed; tuned in the library: {compiled['tuned']}")
    print(f"raw figures in {machine.RESULTS / NAME}.json")
    return 0 if compiled["selftest"] == 0 and rows["recorded"] >= arguments.trials else 1


@contextlib.contextmanager
def _board(root: Path) -> Iterator[None]:
    """A server in the root file system."""
    host, port = ADDRESS
    serve = ["board", "serve", "--key", KEY, "--host", host, "--port", str(port)]
    command = [shutil.which("chroot"), root, "/usr/bin/python3", "-m", "tilewright", *serve]
    environment = {"PYTHONPATH": "/opt/site", "PATH": "/usr/sbin:/usr/bin:/bin", "HOME": "/root"}
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(where: Where) -> dict[str, Any]:
    """What the board says of itself, once it does."""
    end = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            return remote.facts_of(where)
        except TilewrightError:
            if time.monotonic() > end:
                raise
            time.sleep(2)


def _trials(db: Path) -> dict[str, Any]:
    """What the records say."""
    records = Database(db).read()[0]
    trials = [record for record in records if not record.confirmed]
    (target,) = {record.target for record in trials}
    return {
        "recorded": len(trials),
        "failed": sum(record.failure is not None for record in trials),
        "confirmed": len(records) - len(trials),
        "target": target,
        "tasks": len({record.task for record in trials}),
    }


def _compiled(model: Path, target: str, db: Path, folder: Path) -> dict[str, Any]:
    """A bundle that the records choose the kernels of, and what its test of itself returns."""
    built = tilewright.compile(model, target, db=db)
    bundle = built.save_bundle(folder)
    run = [EMULATOR, "-L", LIBRARIES, bundle / "run", "--selftest"]
    done = subprocess.run(run, timeout=SELFTEST_WITHIN)
    return {"tuned": built.manifest["tuning"]["tuned"], "selftest": done.returncode}


if __name__ == "__main__":
    sys.exit(main())
