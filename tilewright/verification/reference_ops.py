"""Operators that onnx's reference implementation gets wrong, or takes minutes over.

They replace its own when a model is evaluated in double precision (reference.py).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as OnnxMaxPool
from onnx.reference.ops.op_stft import STFT as OnnxSTFT


class Conv(OpRun):
    """One matrix product per place in the kernel; onnx's own copies every window of every group."""

    op_domain = ""

    def _run(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        auto_pad: str = "NOTSET",
        dilations: list[int] | None = None,
        group: int = 1,
        kernel_shape: list[int] | None = None,
        pads: list[int] | None = None,
        strides: list[int] | None = None,
    ) -> tuple[np.ndarray]:
        rank = x.ndim - 2
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        spans = _spans(w, dilations)
        padded = np.pad(x, [(0, 0), (0, 0), *_pads(auto_pad, pads, x.shape[2:], spans, strides)])
        sizes = [
            (size - span) // stride + 1
            for size, span, stride in zip(padded.shape[2:], spans, strides, strict=True)
        ]
        parts = padded.reshape(len(x), group, -1, *padded.shape[2:])
        weights = w.reshape(group, -1, *w.shape[1:])
        y = np.zeros((len(x), group, weights.shape[1], math.prod(sizes)), x.dtype)
        for place, window in _places(w.shape[2:], dilations, strides, sizes):
            seen = parts[(..., *window)]
            y += weights[(..., *place)] @ seen.reshape(*seen.shape[:3], -1)
        y = y.reshape(len(x), len(w), *sizes)
        return (_with_bias(y, b),)


class ConvTranspose(OpRun):
    """As Conv, the other way round."""

    op_domain = ""

    def _run(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        auto_pad: str = "NOTSET",
        dilations: list[int] | None = None,
        group: int = 1,
        kernel_shape: list[int] | None = None,
        output_padding: list[int] | None = None,
        output_shape: list[int] | None = None,
        pads: list[int] | None = None,
        strides: list[int] | None = None,
    ) -> tuple[np.ndarray]:
        rank, sizes = x.ndim - 2, x.shape[2:]
        strides, dilations = strides or [1] * rank, dilations or [1] * rank
        extra = output_padding or [0] * rank
        spans = _spans(w, dilations)
        whole = [(n - 1) * s + span for n, s, span in zip(sizes, strides, spans, strict=True)]
        y = np.zeros((len(x), group, w.shape[1], *whole), x.dtype)
        parts = x.reshape(len(x), group, -1, math.prod(sizes))
        weights = w.reshape(group, -1, *w.shape[1:])
        for place, window in _places(w.shape[2:], dilations, strides, list(sizes)):
            spread = weights[(..., *place)].swapaxes(1, 2) @ parts
            y[(..., *window)] += spread.reshape(*y.shape[:3], *sizes)
        y = y.reshape(len(x), -1, *whole)
        if output_shape is not None or auto_pad.startswith("SAME"):
            wanted = output_shape or [n * s for n, s in zip(sizes, strides, strict=True)]
            lost = [a + e - b for a, e, b in zip(whole, extra, wanted[-rank:], strict=True)]
            halves = [max(0, n) // 2 for n in lost]
            upper = auto_pad == "SAME_UPPER"
            first = [h if upper else max(0, n) - h for h, n in zip(halves, lost, strict=True)]
        else:
            given = pads or [0] * (2 * rank)
            first = given[:rank]
            lost = [a + b for a, b in zip(first, given[rank:], strict=True)]
            wanted = [a + e - n for a, e, n in zip(whole, extra, lost, strict=True)]
        # Rows that `output_padding` adds lie behind what the kernel reaches.
        y = np.pad(y, [(0, 0), (0, 0), *((0, e) for e in extra)])
        kept = (slice(a, a + n) for a, n in zip(first, wanted[-rank:], strict=True))
        return (_with_bias(y[(..., *kept)], b),)


class BatchNormalization(OpRun):
    """With the statistics it is given; onnx's own computes them anew before opset 14."""

    op_domain = ""

    def _run(
        self,
        x: np.ndarray,
        scale: np.ndarray,
        bias: np.ndarray,
        mean: np.ndarray,
        var: np.ndarray,
        epsilon: float = 1e-5,
        **_training: object,
    ) -> tuple[np.ndarray]:
        scale, bias, mean, var = (
            a.reshape(-1, *[1] * (x.ndim - 2)) for a in (scale, bias, mean, var)
        )
        return (scale * (x - mean) / np.sqrt(var + epsilon) + bias,)


class GatherElements(OpRun):
    """Onnx's own refuses indices of another shape than the data's, and more than 64 rows."""

    op_domain = ""

    def _run(self, data: np.ndarray, indices: np.ndarray, axis: int = 0) -> tuple[np.ndarray]:
        grid = list(np.indices(indices.shape, sparse=True))
        grid[axis] = indices
        return (data[tuple(grid)],)


class MaxPool(OnnxMaxPool):
    """Onnx's own gives other sizes where what is padded differs from axis to axis."""

    def _run(self, x: np.ndarray, **attributes: Any) -> tuple[np.ndarray, ...]:
        if len(self.onnx_node.output) > 1:
            return super()._run(x, **attributes)
        windows = _Windows(x.shape[2:], **_geometry(attributes))
        least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        padded = windows.padded(x, least)
        return (functools.reduce(np.maximum, (padded[where] for where in windows)),)


class AveragePool(OpRun):
    """As MaxPool."""

    op_domain = ""

    def _run(
        self, x: np.ndarray, count_include_pad: int = 0, **attributes: Any
    ) -> tuple[np.ndarray]:
        windows = _Windows(x.shape[2:], **_geometry(attributes))
        padded = windows.padded(x, 0)
        counted = windows.padded(np.ones_like(x[:1, :1]), float(bool(count_include_pad)), last=0)
        total, count = (sum(array[where] for where in windows) for array in (padded, counted))
        return (total / count,)


class GlobalMaxPool(OpRun):
    """Over all positions; onnx's own takes axes 1 and 2 of a tensor of rank 3."""

    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class STFT(OnnxSTFT):
    """Of a signal without an axis of parts, too, which ONNX Runtime takes for real."""

    def _run(self, x: np.ndarray, *rest: Any, **attributes: Any) -> tuple[np.ndarray]:
        return super()._run(x[..., None] if x.ndim == 2 else x, *rest, **attributes)


class Softsign(OpRun):
    """Of a scalar, too; onnx's own fails."""

    op_domain = ""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.asarray(x / (1 + np.abs(x))),)


OPERATORS = (
    STFT,
    Softsign,
    *(Conv, ConvTranspose, BatchNormalization, GatherElements),
    *(MaxPool, AveragePool, GlobalMaxPool),
)


def _geometry(attributes: dict[str, Any]) -> dict[str, Any]:
    names = ("kernel_shape", "strides", "pads", "dilations", "auto_pad", "ceil_mode")
    return {name: attributes.get(name) for name in names}


class _Windows:
    """The windows of a pool over axes of the given sizes: for each place in them, what meets it."""

    def __init__(
        self,
        sizes: tuple[int, ...],
        kernel_shape: list[int],
        strides: list[int] | None,
        pads: list[int] | None,
        dilations: list[int] | None,
        auto_pad: str | None,
        ceil_mode: int | None,
    ) -> None:
        ones = [1] * len(sizes)
        self._kernel, self._strides = kernel_shape, strides or ones
        self._dilations = dilations or ones
        spans = [(k - 1) * d + 1 for k, d in zip(kernel_shape, self._dilations, strict=True)]
        self._pads = _pads(auto_pad or "NOTSET", pads, sizes, spans, self._strides)
        self._sizes, self._beyond = [], []
        for size, (first, last), span, stride in zip(
            sizes, self._pads, spans, self._strides, strict=True
        ):
            room = size + first + last - span
            count = (-(-room // stride) if ceil_mode else room // stride) + 1
            # A window that begins behind the numbers is none.
            count -= (count - 1) * stride >= size + first
            self._sizes.append(count)
            self._beyond.append(max(0, (count - 1) * stride - room))

    def padded(self, x: np.ndarray, fill: float, last: float | None = None) -> np.ndarray:
        """`x` with `fill` around it, and `last` where windows reach beyond that."""
        whole = np.pad(x, [(0, 0), (0, 0), *self._pads], constant_values=fill)
        rest = [(0, 0), (0, 0), *((0, n) for n in self._beyond)]
        return np.pad(whole, rest, constant_values=fill if last is None else last)

    def __iter__(self) -> Iterator[tuple]:
        places = _places(tuple(self._kernel), self._dilations, self._strides, self._sizes)
        return ((..., *window) for _, window in places)


def _spans(w: np.ndarray, dilations: list[int]) -> list[int]:
    return [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]


def _places(
    kernel: tuple[int, ...], dilations: list[int], strides: list[int], sizes: list[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each place in the kernel, and the part of the padded image that meets it."""
    for place in itertools.product(*map(range, kernel)):
        yield (
            place,
            tuple(
                slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride)
                for at, dilation, stride, size in zip(place, dilations, strides, sizes, strict=True)
            ),
        )


def _pads(
    auto: str, pads: list[int] | None, sizes: tuple[int, ...], spans: list[int], strides: list[int]
) -> list[tuple[int, int]]:
    """Zeros before and after each spatial axis, as ONNX defines `auto_pad`."""
    rank = len(sizes)
    if not auto.startswith("SAME"):
        given = (pads if auto == "NOTSET" else None) or [0] * (2 * rank)
        return list(zip(given[:rank], given[rank:], strict=True))
    pairs = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        whole = max(0, (-(-size // stride) - 1) * stride + span - size)
        less, more = whole // 2, whole - whole // 2
        pairs.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return pairs


def _with_bias(y: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    return y if b is None else y + b.reshape(-1, *[1] * (y.ndim - 2))
