"""Weights in the order in which a register tile reads them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tilewright.targets.rules.rule import Packed


def packed_columns(
    shape: tuple[int, ...], wide: int, lanes: int, matrices: Callable[[], np.ndarray]
) -> Packed:
    """What `pack_columns` makes of `matrices()`, [..., k, n] as `shape` says."""
    *lead, depth, n = shape
    columns = n // wide * wide + math.ceil(n % wide / lanes) * lanes
    return Packed((*lead, depth * columns), lambda: pack_columns(matrices(), wide, lanes))


def pack_columns(b: np.ndarray, wide: int, lanes: int) -> np.ndarray:
    """B [..., k, n] -> [..., panel * k * columns]: panels of `wide` columns, the last one padded.

    The last panel is as wide as its columns need, in whole vectors of `lanes`.
    """
    *lead, depth, n = b.shape
    full = n // wide
    panels = b[..., : full * wide].reshape(*lead, depth, full, wide).swapaxes(-3, -2)
    parts = [panels.reshape(*lead, depth * full * wide)]
    if rest := n - full * wide:
        padded = np.zeros((*lead, depth, -(-rest // lanes) * lanes), b.dtype)
        padded[..., :rest] = b[..., full * wide :]
        parts.append(padded.reshape(*lead, -1))
    return np.concatenate(parts, axis=-1)


def padded_columns(bias: np.ndarray, n: int, lanes: int) -> Packed:
    """One value per column, as many as whole vectors have."""

    def make() -> np.ndarray:
        values = np.zeros(-(-n // lanes) * lanes, bias.dtype)
        values[:n] = np.broadcast_to(bias.reshape(-1), (n,))
        return values

    return Packed((-(-n // lanes) * lanes,), make)
