"""What this machine can do at most: multiply-adds, and bytes from each level of its memory.

Peak: ten independent sums of vectors, more than latency times ports of any CPU so far, so that
every cycle starts as many multiply-adds as there are ports. Bandwidth: the triad a = b + s * c
(McCalpin 1995, "STREAM"), three arrays that together fill half of a level, counted as STREAM
counts: two reads and a write. Every thread runs a kernel of its own on arrays of its own; the best
of several short runs counts, since nothing but other load makes a run slower.

A kernel's least time is the longer of its operations over the peak and its bytes over the
bandwidth of the smallest level that holds them (Williams, Waterman and Patterson 2009, "Roofline").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tilewright.compiler import child
from tilewright.compiler.child import Emit
from tilewright.targets import Target, resolve

SUMS = 10
RUNS = 8
RUN_SECONDS = 4e-3
PROBE_SECONDS = 0.001
INNER_ROUNDS = 256
# Where the target does not know its L3, and as the size of "memory" beside a small one.
LEAST_DRAM_BYTES = 64 << 20
MOST_DRAM_BYTES = 256 << 20


@dataclass(frozen=True)
class Level:
    """A level of memory: bytes that it holds for all threads, bytes per second to all of them.

    `holds` is None for main memory.
    """

    name: str
    holds: int | None
    bandwidth: float


@dataclass(frozen=True)
class Roofline:
    """Operations per second and the levels, smallest first, of `threads` threads."""

    threads: int
    peak: float
    levels: tuple[Level, ...]

    def level(self, size: float) -> Level:
        """The smallest level that holds `size` bytes."""
        return next(level for level in self.levels if level.holds is None or size <= level.holds)

    def least_seconds(self, flops: float, size: float) -> tuple[float, str]:
        """The least time of `flops` operations on `size` bytes; "compute" or the level's name."""
        level = self.level(size)
        return max((flops / self.peak, "compute"), (size / level.bandwidth, level.name))

    def to_dict(self) -> dict[str, Any]:
        """JSON values: operations per second, bytes, bytes per second."""
        return {**asdict(self), "levels": [asdict(level) for level in self.levels]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Roofline:
        """What `to_dict` wrote."""
        return cls(**{**data, "levels": tuple(Level(**level) for level in data["levels"])})


@lru_cache
def of_this_machine(threads: int) -> Roofline:
    """Measured in a child process, once per process and number of threads."""
    found = child.call(f"{__name__}:roofline_job", {"threads": threads}, doing="measuring")
    return Roofline.from_dict(found)


def roofline_job(job: dict[str, Any], _emit: Emit) -> dict[str, Any]:
    """`measure` for this machine, as a job of a child process."""
    return measure(resolve("native"), job["threads"]).to_dict()


def measure(target: Target, threads: int) -> Roofline:
    """Build the kernels for `target` and run them on `threads` threads."""
    l1, l2, l3 = target.l1d_bytes, target.l2_bytes, target.l3_bytes
    private = [("L1", threads * l1), ("L2", threads * l2), ("L3", l3)]
    known = [(name, size) for name, size in private if size]
    dram = min(MOST_DRAM_BYTES, max(LEAST_DRAM_BYTES, 4 * l3))
    levels = [Level(name, size, bandwidth(target, threads, size // 2)) for name, size in known]
    levels.append(Level("DRAM", None, bandwidth(target, threads, dram)))
    return Roofline(threads, fma_peak(target, threads), tuple(levels))


def fma_peak(target: Target, threads: int) -> float:
    """float32 operations per second; a multiply-add is two. The best of several runs."""
    return _operations(target) * _best_rate(_fma_run(target, threads), threads)


def fma_probe(target: Target, threads: int) -> Callable[[], float]:
    """What gives the peak of the moment: one run of a millisecond.

    Where others use the machine too, that changes from moment to moment, and what is measured in
    turns with it is compared with what was there to be had.
    """
    run = _fma_run(target, threads)
    times = _array(_repetitions(run, threads, PROBE_SECONDS))
    return lambda: threads * times.shape[0] * _operations(target) / _seconds(run, threads, times)


def _fma_run(target: Target, threads: int) -> Callable[[int, Any], None]:
    kernel = _fma_kernel(target)
    results = [_array(SUMS * _lanes(target)) for _ in range(threads)]

    def run(thread: int, times: Any) -> None:
        kernel(results[thread], times)

    return run


def _operations(target: Target) -> int:
    """Of one repetition of the kernel."""
    return 2 * SUMS * _lanes(target) * INNER_ROUNDS


def bandwidth(target: Target, threads: int, size: int) -> float:
    """Bytes per second of the triad over `size` bytes in all."""
    lanes = _lanes(target)
    length = max(4 * lanes, size // threads // 12 // (4 * lanes) * 4 * lanes)
    kernel = _triad_kernel(target)
    arrays = [[_array(length) for _ in range(3)] for _ in range(threads)]

    def run(thread: int, times: Any) -> None:
        kernel(*arrays[thread], times)

    return 12 * length * _best_rate(run, threads)


def _best_rate(run: Callable[[int, Any], None], threads: int) -> float:
    """Greatest number of repetitions per second, of all threads together.

    `run(thread, times)` does one repetition for each element of `times`.
    """
    count = _repetitions(run, threads, RUN_SECONDS)
    times = _array(count)
    return threads * count / min(_seconds(run, threads, times) for _ in range(RUNS))


def _repetitions(run: Callable[[int, Any], None], threads: int, seconds: float) -> int:
    """How many take about so long."""
    count = 1
    while _seconds(run, threads, _array(count)) < seconds / 2:
        count *= 2
    return count


def _seconds(run: Callable[[int, Any], None], threads: int, times: Any) -> float:
    """Mean time of the threads, each of which does the same at the same time."""
    spans: list[float] = []
    barrier = threading.Barrier(threads)

    def part(thread: int) -> None:
        barrier.wait()
        start = time.perf_counter()
        run(thread, times)
        spans.append(time.perf_counter() - start)

    workers = [threading.Thread(target=part, args=(n,)) for n in range(1, threads)]
    for worker in workers:
        worker.start()
    part(0)
    for worker in workers:
        worker.join()
    return sum(spans) / threads


def _lanes(target: Target) -> int:
    from tilewright.targets.rules.register_tile import lanes_of

    return lanes_of(target)


def _array(length: int) -> Any:
    import tvm

    return tvm.runtime.tensor(np.full(length, 0.5, np.float32))


@lru_cache
def _fma_kernel(target: Target) -> Callable[..., None]:
    """f(result, times): INNER_ROUNDS times sum[i] = sum[i] * s + s for each s of `times`."""
    from tilewright.targets.rules.tir import Kernel, local, loop, number, seq

    lanes = _lanes(target)
    kernel = Kernel("peak")
    result = kernel.param((SUMS * lanes,), "float32", "result")
    times = kernel.param(("count",), "float32", "times")
    sums, allocate = local(SUMS * lanes, "float32", "sums")
    places = [i * lanes for i in range(SUMS)]

    def one_round(s: Any) -> Any:
        return seq(sums.store(at, sums.load(at, lanes) * s + s, lanes) for at in places)

    def rounds(i: Any) -> Any:
        return loop(INNER_ROUNDS, lambda _: one_round(times.splat(i, lanes)), "round")

    body = [
        allocate,
        *(sums.store(at, number(float(n), "float32", lanes), lanes) for n, at in enumerate(places)),
        loop(kernel.size("count"), rounds, "i"),
        *(result.store(at, sums.load(at, lanes), lanes) for at in places),
    ]
    return _built(kernel.finish(seq(body)), target)


@lru_cache
def _triad_kernel(target: Target) -> Callable[..., None]:
    """f(a, b, c, times): a = b + s * c for each s of `times`.

    The arrays hold whole blocks of four vectors.
    """
    from tvm import tirx

    from tilewright.targets.rules.tir import Kernel, loop, seq

    lanes = _lanes(target)
    kernel = Kernel("triad")
    a, b, c = (kernel.param(("length",), "float32", name) for name in "abc")
    times = kernel.param(("count",), "float32", "times")
    blocks = tirx.floordiv(kernel.size("length"), 4 * lanes)

    def block(s: Any, start: Any) -> Any:
        places = [start * (4 * lanes) + i * lanes for i in range(4)]
        return seq(a.store(p, b.load(p, lanes) + s * c.load(p, lanes), lanes) for p in places)

    def triad(i: Any) -> Any:
        return loop(blocks, lambda start: block(times.splat(i, lanes), start), "block")

    return _built(kernel.finish(loop(kernel.size("count"), triad, "i")), target)


def _built(function: Any, target: Target) -> Callable[..., None]:
    import tvm

    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    return tvm.tirx.build(module, target=tvm.target.Target(target.tvm_config()))["main"]
