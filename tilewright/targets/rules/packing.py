"""Weights in the order in which a register tile reads them."""

from __future__ import annotations

import numpy as np


def pack_columns(b: np.ndarray, wide: int, lanes: int) -> np.ndarray:
    """B [k, n] -> flat [panel][k][columns]: panels of `wide` columns, the last one padded.

    The last panel is as wide as its columns need, in whole vectors of `lanes`.
    """
    depth, n = b.shape
    full = n // wide
    parts = [b[:, : full * wide].reshape(depth, full, wide).transpose(1, 0, 2).reshape(-1)]
    if rest := n - full * wide:
        padded = np.zeros((depth, -(-rest // lanes) * lanes), b.dtype)
        padded[:, :rest] = b[:, full * wide :]
        parts.append(padded.reshape(-1))
    return np.concatenate(parts)


def pad_columns(bias: np.ndarray, n: int, lanes: int) -> np.ndarray:
    """One value per column, as many as whole vectors have."""
    values = np.zeros(-(-n // lanes) * lanes, bias.dtype)
    values[:n] = np.broadcast_to(bias.reshape(-1), (n,))
    return values
