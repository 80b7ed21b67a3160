"""What several boards are worth: a session on one, on three, and on three of which one dies.

    python -m benchmarks.farm [--boards 3] [--trials 48] [--pause 3]

The boards are RPC servers on this machine's loopback, below one tracker. Each waits for --pause
seconds before it measures, which stands for a slow board: without that, they would wait for the
same cores. Trials a minute from the begin of the search on, builds included. When one dies, every
choice must still be recorded once. Writes results/farm.json.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tilewright
from benchmarks import machine
from benchmarks.kernels import model_of
from benchmarks.operators import Conv
from tilewright.autotune.records import Database
from tilewright.devices import server
from tilewright.devices.where import BOARD_PORT, TRACKER_PORT, Where

NAME = "farm"
KEY = "benchmark"
LOOPBACK = "127.0.0.1"


def main(words: Sequence[str] | None = None) -> int:
    """Run the three sessions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=3)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds before a measurement")
    parser.add_argument("--output", default=NAME, help="name of the results file")
    arguments = parser.parse_args(words)
    most, trials, pause = arguments.boards, arguments.trials, arguments.pause
    one = measure(1, trials, pause)
    many = measure(most, trials, pause)
    loss = measure(most, trials, pause, dies_after=trials // 4)
    speedup = many["trials_per_minute"] / one["trials_per_minute"]
    result = {"pause": pause, "one": one, "many": many, "loss": loss, "speedup": speedup}
    machine.write(arguments.output, result)
    for name, row in (("one board", one), (f"{most} boards", many), ("one of them dies", loss)):
        print(
            f"{name}: {row['trials_per_minute']:.0f} trials a minute, {row['recorded']} recorded, "
            f"{row['doubled']} twice, {row['failed']} failed"
        )
    print(f"{most} boards measure {speedup:.2f} times as many trials as one")
    print(f"raw figures in {machine.RESULTS / arguments.output}.json")
    complete = all(r["recorded"] == trials and r["doubled"] == 0 for r in (one, many, loss))
    return 0 if complete else 1


def measure(
    boards: int, trials: int, pause: float, dies_after: int | None = None
) -> dict[str, Any]:
    """One session on so many boards; after `dies_after` trials, the last board is killed."""
    times: list[float] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder, farm(boards, pause) as (tracker, servers):
        model, db = Path(folder) / "model.onnx", Path(folder) / "records.jsonl"
        model.write_bytes(model_of(Conv(64, 14, 96, 3)).SerializeToString())

        def progress(event: dict[str, Any]) -> None:
            if event["event"] == "note":
                notes.append(event["text"])
            elif event["event"] in ("tasks", "trial"):
                times.append(time.perf_counter())
                if len(times) - 1 == dies_after:
                    servers[-1].terminate()

        where = Where((LOOPBACK, tracker.port), KEY, tracked=True)
        tilewright.tune(
            model, db=db, trials=trials, budget=None, threads=1, devices=where, progress=progress
        )
        records = [record for record in Database(db).read()[0] if not record.confirmed]
    choices = [record.choice for record in records]
    return {
        "boards": boards,
        "trials_per_minute": 60 * (len(times) - 1) / (times[-1] - times[0]),
        "recorded": len(records),
        "doubled": len(choices) - len(set(choices)),
        "failed": sum(record.failure is not None for record in records),
        "notes": notes,
    }


@contextlib.contextmanager
def farm(boards: int, pause: float) -> Iterator[tuple[Any, list[Any]]]:
    """A tracker and servers that report to it."""
    tracker = server.start_tracker((LOOPBACK, TRACKER_PORT))
    address = (LOOPBACK, tracker.port)
    make = slow_device(pause)
    servers = [server.start(KEY, (LOOPBACK, BOARD_PORT), address, make) for _ in range(boards)]
    try:
        _wait_for(boards, Where(address, KEY, tracked=True))
        yield tracker, servers
    finally:
        for one in servers:
            one.terminate()
        tracker.terminate()


def slow_device(pause: float) -> Callable[[int], Any]:
    """What makes devices that wait before they measure; it is copied into the servers."""

    def make(threads: int) -> Any:
        from tilewright.devices.local import LocalDevice

        class SlowDevice(LocalDevice):
            def duel(self, *arguments: Any) -> Any:
                time.sleep(pause)
                return super().duel(*arguments)

        return SlowDevice(threads)

    return make


def _wait_for(boards: int, where: Where) -> None:
    from tilewright.devices.remote import free_devices

    end = time.monotonic() + 60
    while free_devices(where) < boards:
        if time.monotonic() > end:
            raise TimeoutError(f"{boards} boards did not report to the tracker within a minute")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
