"""What the cost model sees of a choice: its loops against the registers, caches and cores.

All are ratios or logarithms, so that what is learnt of one shape holds for others. A group of
several kernels has the mean of theirs, weighted by their products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tilewright.targets import Target

FLOAT_BYTES = 4
# Knobs of single rules that say more than the loops of their products do.
OWN_KNOBS = ("tile", "block_rows", "keys", "panels", "vectors", "rows", "positions")
RULES = ("winograd", "conv", "linear", "mlp", "attention", "squeeze_excitation", "conv_chain")


def describe(
    rule: str,
    knobs: Mapping[str, int],
    facts: Mapping[str, Mapping[str, float]],
    target: Target,
) -> dict[str, float]:
    """Features of a choice by name; `facts` is what the rule noted of its kernels, by kernel."""
    found = {f"rule_{name}": float(rule == name) for name in RULES}
    for name in OWN_KNOBS:
        values = [
            math.log2(1 + value) for key, value in knobs.items() if key.split(".")[-1] == name
        ]
        found[f"knob_{name}"] = sum(values) / len(values) if values else -1.0
    products = [kernel for kernel in facts.values() if "m" in kernel]
    work = [kernel["m"] * kernel["n"] * kernel["k"] for kernel in products]
    total = sum(work)
    loops = [_loops(kernel, target) for kernel in products]
    for name in _loops(_EXAMPLE, target):
        weighted = [w * loop[name] for w, loop in zip(work, loops, strict=True)]
        found[name] = sum(weighted) / total if total else -1.0
    found["log_products"] = math.log2(1 + total)
    found["kernels"] = float(len(facts))
    return found


_EXAMPLE = dict.fromkeys(("m", "n", "k", "rows", "vectors", "tiles", "panels", "parts"), 1.0)


def _loops(kernel: Mapping[str, float], target: Target) -> dict[str, float]:
    """One product's tile, blocks and pieces."""
    m, n, k = kernel["m"], kernel["n"], kernel["k"]
    rows, vectors, parts = kernel["rows"], kernel["vectors"], kernel["parts"]
    lanes = target.vector_bits // 32
    wide = vectors * lanes
    depth = -(-k // parts)
    tiles, panels = -(-m // rows), -(-n // wide)
    pieces = -(-tiles // kernel["tiles"]) * -(-panels // kernel["panels"])
    rounds = -(-pieces // target.cores)
    l1, l2 = max(1, target.l1d_bytes), max(1, target.l2_bytes)
    block = min(m, kernel["tiles"] * rows)
    share = min(n, kernel["panels"] * wide)
    return {
        "rows": rows,
        "vectors": vectors,
        "sums": rows * vectors,
        "registers": (rows * vectors + vectors + 1) / target.vector_registers,
        "loads_per_product": (rows + vectors) / (rows * vectors),
        "filled_rows": m / (tiles * rows),
        "filled_columns": n / (panels * wide),
        "log_m": math.log2(m),
        "log_n": math.log2(n),
        "log_k": math.log2(max(1, k)),
        "panel_of_l1": _log_share(depth * wide, l1),
        "rows_of_l1": _log_share(depth * rows, l1),
        "block_of_l2": _log_share(block * depth, l2),
        "panels_of_l2": _log_share(share * depth, l2),
        "weights_of_l2": _log_share(n * k, l2),
        "sums_of_l2": _log_share(block * share, l2) if parts > 1 else -20.0,
        "parts": math.log2(parts),
        "pieces": math.log2(pieces),
        "balance": pieces / (rounds * target.cores),
        "reads_of_b": math.log2(-(-m // block)),
        "reads_of_a": math.log2(-(-n // share)),
    }


def _log_share(floats: float, size: int) -> float:
    return math.log2(max(1.0, floats) * FLOAT_BYTES / size)
