"""Random graphs by number: each is drawn by itself, and may be drawn again."""

from __future__ import annotations

import random
from collections.abc import Sequence

import hypothesis
import onnx
from hypothesis import HealthCheck

from tilewright.verification import strategies

# Bytes that a graph is drawn from; the largest take half of them.
_BYTES = 1 << 14


class Drawing:
    """The graphs of a seed with `least` to `most` nodes; `ops` as for `strategies.graphs`."""

    def __init__(self, seed: int, ops: Sequence[str] | None, least: int, most: int) -> None:
        self._seed, self._least, self._most = seed, least, most
        strategy = strategies.graphs(ops, least=least, most=most)
        strategy = strategy if ops else strategy | strategies.models()
        self._made: onnx.ModelProto | None = None

        @hypothesis.settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @hypothesis.given(strategy)
        def draw(model: onnx.ModelProto) -> None:
            self._made = model

        # Hypothesis itself would draw most graphs as variations of earlier ones, which take the
        # same time and find less.
        self._draw = draw.hypothesis.fuzz_one_input

    def graph(self, number: int) -> onnx.ModelProto | None:
        """Graph `number`; None where the one that is drawn has fewer or more nodes."""
        self._made = None
        self._draw(random.Random(f"{self._seed} {number}").randbytes(_BYTES))
        nodes = len(self._made.graph.node) if self._made else 0
        return self._made if self._least <= nodes <= self._most else None
