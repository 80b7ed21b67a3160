"""Multiply the channels of a convolution's constant weights: those it writes, those it reads."""

from __future__ import annotations

import numpy as np
from tvm import relax

from tilewright.passes.relax_constants import array_of, constant, is_constant

_CONVOLUTIONS = tuple(f"relax.nn.conv{rank}d" for rank in (1, 2, 3))
_TRANSPOSED = tuple(f"{name}_transpose" for name in _CONVOLUTIONS)


def is_foldable(expr: relax.Expr | None) -> bool:
    """Whether `expr` is a convolution with constant weights."""
    name = getattr(getattr(expr, "op", None), "name", "")
    return name in (*_CONVOLUTIONS, *_TRANSPOSED) and is_constant(expr.args[1])


def adds_zeros(convolution: relax.Call) -> bool:
    """Whether some positions see fewer elements of the input than the kernel has.

    That is so with padding; a transposed convolution's borders are always such positions.
    """
    padding = [int(size) for size in convolution.attrs.padding]
    return any(padding) or convolution.op.name in _TRANSPOSED


def scale_channels(convolution: relax.Call, scale: np.ndarray) -> relax.Expr:
    """The weights of `convolution` times `scale`: one value per output channel, or one in all.

    Weights are [out, in / groups, *kernel], of a transposed convolution
    [in, out / groups, *kernel].
    """
    weights = array_of(convolution.args[1])
    inner = weights.shape[1:]
    if convolution.op.name in _TRANSPOSED:
        groups = int(convolution.attrs.groups)
        shares = np.broadcast_to(scale, groups * inner[0]).reshape(groups, 1, inner[0])
        grouped = weights.reshape(groups, -1, *inner)
        scaled = grouped * shares.reshape(*shares.shape, *[1] * len(inner[1:]))
        return constant(scaled.reshape(weights.shape), str(weights.dtype))
    shares = np.broadcast_to(scale, weights.shape[:1]).reshape(-1, *[1] * len(inner))
    return constant(weights * shares, str(weights.dtype))


def scale_inputs(convolution: relax.Call, scale: np.ndarray) -> np.ndarray:
    """The weights of `convolution` times `scale`, one value per input channel."""
    weights = array_of(convolution.args[1])
    kernel = weights.shape[2:]
    if convolution.op.name in _TRANSPOSED:
        return weights * scale.reshape(-1, *[1] * (1 + len(kernel)))
    groups = int(convolution.attrs.groups)
    grouped = weights.reshape(groups, -1, *weights.shape[1:])
    shares = scale.reshape(groups, 1, weights.shape[1], *[1] * len(kernel))
    return (grouped * shares).reshape(weights.shape)
