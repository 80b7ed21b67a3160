"""What happens to the scores of an attention between their product and the softmax.

    score = cap(score) + bias;  score + mask, or where(mask, score, fill)

Scores lie with their queries side by side. A bias or mask [.., queries, keys] is therefore held
transposed, [.., keys, queries in whole vectors], in float32: a constant one is transposed at
compile time, another one by a kernel before the attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from tilewright.ops import AttentionSpec
from tilewright.targets.rules.rule import Argument, Given, GroupCall, Launch
from tilewright.targets.rules.tir import Flat, Index, Kernel, Stmt, branch, loop, number, seq
from tilewright.targets.rules.vector_math import tanh

# A score that a constant mask lowers to this is hidden: exp underflows to 0 in float32.
_HIDES = -1e3


class Scores:
    """Applied to vectors of scores."""

    def __init__(self, spec: AttentionSpec) -> None:
        self.causal = spec.causal and spec.fill is not None and spec.fill <= _HIDES

    @staticmethod
    def refuses(call: GroupCall) -> str | None:
        spec = call.spec
        if spec.bias or (spec.mask != "none"):
            return "mask"
        return None

    @staticmethod
    def of(call: GroupCall, kernel: Kernel, lanes: int):
        return Scores(call.spec), (), ()

    def __call__(self, value, lead, query, key, lanes):
        return value
