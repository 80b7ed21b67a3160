"""Inputs that are not degenerate, for models whose answer to noise says nothing.

A text detector answers 1e-6 everywhere to noise, and any error hides in that. Models without
an entry get the front door's own random inputs: normal floats, token ids in range.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilewright.demo import text_regions
from tilewright.demo.__main__ import PICTURE


def receipt() -> dict[str, np.ndarray]:
    """The demo's receipt on a 640x640 page: float32 [1, 3, 640, 640]."""
    pixels = text_regions.picture(PICTURE)
    page = np.full((640, 640, 3), 200, np.uint8)
    page[: pixels.shape[0], : pixels.shape[1]] = pixels
    return {"x": text_regions.model_input(page)}


def text_line() -> dict[str, np.ndarray]:
    """The receipt's "Orange juice", 48x192, scaled to -1..1 as the classifier expects."""
    line = text_regions.picture(PICTURE)[200:248, 20:212, ::-1]
    normal = (line.astype(np.float32) / 255 - 0.5) / 0.5
    return {"x": np.ascontiguousarray(normal.transpose(2, 0, 1)[None])}


FEEDS: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    "trained_ppocrv4_det": receipt,
    "trained_ppocr_cls": text_line,
}
