"""Weights in the order in which a register tile reads them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tilewright.targets.rules.rule import Packed


def packed_columns(
    shape: tuple[int, ...], wide: int, unit: int, matrices: Callable[[], np.ndarray], line: int = 0
) -> Packed:
    """What `pack_columns` makes of `matrices()`, [..., k, n] as `shape` says."""
    *lead, depth, n = shape
    columns = n // wide * wide + math.ceil(n % wide / unit) * unit
    return Packed((*lead, depth * columns), lambda: pack_columns(matrices(), wide, unit, line))


def pack_columns(b: np.ndarray, wide: int, unit: int, line: int = 0) -> np.ndarray:
    """B [..., k, n] -> [..., panel * k * columns]: panels of `wide` columns, the last one padded.

    The last panel is as wide as its columns need, in multiples of `unit`. With `line`, a panel is
    [..., line * k * columns of a line]: each `line` columns run down all k by themselves.
    """
    *lead, depth, n = b.shape
    full = n // wide
    parts = [_panels(b[..., : full * wide], wide, line or wide)]
    if rest := n - full * wide:
        padded = np.zeros((*lead, depth, -(-rest // unit) * unit), b.dtype)
        padded[..., :rest] = b[..., full * wide :]
        parts.append(_panels(padded, padded.shape[-1], line or padded.shape[-1]))
    return np.concatenate(parts, axis=-1)


def _panels(b: np.ndarray, wide: int, line: int) -> np.ndarray:
    """B, whose columns are whole panels, as one row for each leading index."""
    *lead, depth, n = b.shape
    lines = b.reshape(*lead, depth, n // line, line).swapaxes(-3, -2)
    return lines.reshape(*lead, depth * n)


def padded_columns(bias: np.ndarray, n: int, lanes: int) -> Packed:
    """One value per column, and as many more as a vector reads that begins at the last one."""

    def make() -> np.ndarray:
        values = np.zeros(n + lanes - 1, bias.dtype)
        values[:n] = np.broadcast_to(bias.reshape(-1), (n,))
        return values

    return Packed((n + lanes - 1,), make)
