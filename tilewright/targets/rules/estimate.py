"""How many cycles a loop nest takes on one core, roughly: to choose among algorithms.

The multipliers' time and that of reading the weights add up: a panel of weights is read while
the first tile that needs it waits, and the tiles after it find it in the cache.
"""

from __future__ import annotations

from tilewright.targets.rules.blocking import FLOAT_BYTES
from tilewright.targets.rules.register_tile import heights, lanes_of, most_rows
from tilewright.targets.target import Target

# From the last multiplication of a tile to the first of the next one: its results are stored and
# the accumulators cleared.
BETWEEN_TILES = 24
# A fused multiply-add can be added to this many cycles after it started (Zen 2 to 4, Intel from
# Skylake on).
FMA_LATENCY = 4


def product_cycles(m: int, n: int, depth: int, target: Target) -> float:
    """[m, depth] @ [depth, n], with weights that are in no cache."""
    lanes = lanes_of(target)
    vectors = 2 if n > lanes else 1
    panels = -(-n // (vectors * lanes))
    ports = max(1, target.fma_ports)
    cycles = 0.0
    for count, height in heights(m, most_rows(target, vectors)):
        step = max(height * vectors / ports, (height + vectors) / 2, FMA_LATENCY)
        cycles += count * panels * (depth * step + BETWEEN_TILES)
    return cycles + stream_cycles(n * depth, target)


def stream_cycles(numbers: float, target: Target) -> float:
    """Read or write as many float32 numbers that are in no cache."""
    return numbers * FLOAT_BYTES / target.dram_bytes_per_cycle
